"""Reads the one message of a StreamChat answer that comes for every token, without building an object for it."""

_HIGH = bytes(range(128, 256))
TOKENS = 0x22
"""The first byte of a StreamChatResponse that holds tokens (field 4)."""


class WrongMessage(ValueError):
    """Bytes that are no such message."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def read_tokens(data: bytes) -> tuple[int, int]:
    """Index of the first token and the number of tokens in a StreamChatResponse that begins with TOKENS.

    A message that holds ids has one token for each; one with text alone has none. Fields of router.v1.Tokens: text (1),
    index (2), token_ids (3, packed), logprobs (4).
    """
    try:
        size, at = varint(data, 1)
        end = at + size
        index = count = 0
        while at < end:
            tag = data[at]
            if tag == 0x10:
                index, at = varint(data, at + 1)
            elif tag in (0x0A, 0x1A, 0x22):
                size = data[at + 1]
                at += 2
                if size > 0x7F:
                    size, at = varint(data, at - 1)
                if tag == 0x1A:
                    # Each varint ends with its only byte below 128.
                    count = len(data[at : at + size].translate(None, _HIGH)) if size > 1 else size
                at += size
            else:
                raise WrongMessage(f"tag {tag} is none of Tokens")
        return index, count
    except IndexError as error:
        raise WrongMessage("a message that ends too soon") from error
