"""Bounds that engines have in common: what every one checks before it takes a prompt, and seeds that servers take."""

from services.kit.errors import InvalidArgument

# Servers keep seeds in 64 bits with a sign, some take no negative ones, and vLLM reads -1 as none at all.
SEED_LIMIT = 1 << 63


def check_room(prompt_tokens: int, context_tokens: int) -> int:
    """Tokens that the answer may have; raises InvalidArgument, PROMPT_TOO_LONG, where there is not one."""
    room = context_tokens - prompt_tokens
    if room < 1:
        message = f"the prompt has {prompt_tokens} tokens and the context {context_tokens}, so no answer fits"
        raise InvalidArgument(message, reason="PROMPT_TOO_LONG", field="prompt")
    return room


def seed_at(seed: int | None, place: int, limit: int = SEED_LIMIT) -> int | None:
    """The seed for an answer that goes on at this place, from 0 up to but not with `limit`; None stays None.

    A server's noise begins anew at each call: so the seed moves with the place in the answer, lest the same noise come
    twice.
    """
    return None if seed is None else (seed + place) % limit
