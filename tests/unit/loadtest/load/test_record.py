"""What a record makes of tokens: the proof that none was lost and none came twice."""

import pytest

from loadtest.load.protobuf import TOKENS, WrongMessage, read_tokens
from loadtest.load.record import Record, Request
from weft.chat.v1 import chat_pb2
from weft.router.v1 import router_pb2


def _record() -> Record:
    return Record(Request(1, 0.0, (("user", "x"),), 8))


@pytest.mark.parametrize(
    ("chunks", "gaps", "repeats"),
    [
        pytest.param([(0, 1), (1, 1), (2, 3)], 0, 0, id="contiguous"),
        pytest.param([(0, 1), (3, 1)], 2, 0, id="two-lost"),
        pytest.param([(0, 2), (1, 2)], 0, 1, id="one-twice"),
        pytest.param([(0, 3), (0, 3)], 0, 3, id="all-twice"),
        pytest.param([(-1, 1), (-1, 2)], 0, 0, id="unknown"),
        pytest.param([(2, 1)], 2, 0, id="first-lost"),
    ],
)
def test_indexes_tell_what_was_lost(chunks: list[tuple[int, int]], gaps: int, repeats: int) -> None:
    record = _record()
    for number, (index, count) in enumerate(chunks):
        record.token(float(number), index, count)
    assert (record.gaps, record.repeats) == (gaps, repeats)
    assert record.tokens == sum(count for _, count in chunks)


def test_silences() -> None:
    record = _record()
    for at_s in (1.0, 1.5, 4.0, 4.1):
        record.token(at_s, -1, 1)
    assert record.first_s == 1.0
    assert record.longest_gap_s == 2.5


@pytest.mark.parametrize("ids", [[1], [0], [127, 128], [300, 70_000, 5], list(range(400))])
@pytest.mark.parametrize("index", [0, 1, 127, 128, 100_000])
@pytest.mark.parametrize("text", ["", "word", "ä" * 200])
def test_a_message_of_tokens_is_read_like_protobuf_reads_it(ids: list[int], index: int, text: str) -> None:
    logprobs = [chat_pb2.TokenLogprob(token_id=number, logprob=-1.5) for number in ids[:3]]
    for some in ([], logprobs):
        tokens = router_pb2.Tokens(text=text, index=index, token_ids=ids, logprobs=some)
        data = router_pb2.StreamChatResponse(tokens=tokens).SerializeToString()
        assert data[0] == TOKENS
        assert read_tokens(data) == (index, len(ids))


@pytest.mark.parametrize("data", [b"\x22", b"\x22\x05\x10", b"\x22\x02\x0a\xff", b"\x22\x02\x48\x01"])
def test_broken_messages_are_told_apart(data: bytes) -> None:
    with pytest.raises(WrongMessage):
        read_tokens(data)
