"""What every engine checks alike before it takes a prompt."""

from services.kit.errors import InvalidArgument


def check_room(prompt_tokens: int, context_tokens: int) -> int:
    """Tokens that the answer may have; raises InvalidArgument, PROMPT_TOO_LONG, where there is not one."""
    room = context_tokens - prompt_tokens
    if room < 1:
        message = f"the prompt has {prompt_tokens} tokens and the context {context_tokens}, so no answer fits"
        raise InvalidArgument(message, reason="PROMPT_TOO_LONG", field="prompt")
    return room
