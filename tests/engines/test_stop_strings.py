"""Stop strings: the answer ends before the first of them, wherever it lies."""

import itertools

from tests.engines.client import EngineLink, Whole
from tests.engines.engines import EngineCase
from weft.chat.v1 import chat_pb2

TOKENS = 40


async def plain(link: EngineLink, case: EngineCase, tokens: int = TOKENS) -> Whole:
    return await link.answer(case.questions[4], max_tokens=tokens)


async def check(link: EngineLink, case: EngineCase, whole: Whole, stop: str, *others: str) -> None:
    """The same answer with stop strings, of which `stop` is the first to be met."""
    got = await link.answer(case.questions[4], max_tokens=len(whole.ids), stop=[*others, stop])
    assert got.text == whole.text[: whole.text.index(stop)]
    assert got.reason == chat_pb2.FINISH_REASON_STOP
    assert got.usage.completion_tokens == len(got.ids) <= len(whole.ids)
    assert got.ids == whole.ids[: len(got.ids)]


def boundaries(whole: Whole) -> list[int]:
    """Places in the text between what two deltas brought, where both sides are whole characters."""
    ends = sorted({len(shown) for shown in whole.shown.values()})
    return [end for end in ends if 0 < end < len(whole.text) and "\ufffd" not in whole.text[end - 1 : end + 1]]


async def test_within_a_token(link: EngineLink, case: EngineCase) -> None:
    whole = await plain(link, case)
    at = next(at for at in range(len(whole.text) // 2, len(whole.text)) if whole.text[at] not in "\ufffd")
    await check(link, case, whole, whole.text[at])


async def test_split_over_tokens(link: EngineLink, case: EngineCase) -> None:
    whole = await plain(link, case)
    found = boundaries(whole)
    for at in (found[len(found) // 4], found[len(found) // 2], found[-1]):
        await check(link, case, whole, whole.text[at - 1 : at + 1])


async def test_over_three_tokens(link: EngineLink, case: EngineCase) -> None:
    whole = await plain(link, case)
    found = boundaries(whole)
    spans = [whole.text[before - 1 : after + 1] for before, after in itertools.pairwise(found)]
    await check(link, case, whole, next(span for span in spans if "\ufffd" not in span))


async def test_at_the_very_end(link: EngineLink, case: EngineCase) -> None:
    """The last token of max_tokens completes it: a stop, and no more of it than before it."""
    for tokens in range(TOKENS, TOKENS // 2, -1):
        whole = await plain(link, case, tokens)
        ends = [whole.text[-size:] for size in range(1, min(60, len(whole.text)))]
        last = next((end for end in ends if whole.text.index(end) == len(whole.text) - len(end)), "")
        if last and "\ufffd" not in last:
            return await check(link, case, whole, last)
    raise AssertionError("no answer ends with text that stands nowhere before")


async def test_the_first_of_several_counts(link: EngineLink, case: EngineCase) -> None:
    whole = await plain(link, case)
    found = boundaries(whole)
    early, late = (whole.text[at - 1 : at + 1] for at in (found[len(found) // 3], found[-1]))
    early, late = sorted((early, late), key=whole.text.index)
    await check(link, case, whole, early, late, "\x01never")


async def test_what_only_looked_like_one_is_not_lost(link: EngineLink, case: EngineCase) -> None:
    whole = await plain(link, case)
    for size in (1, 2, 3):
        almost = whole.text[-size:].replace("\ufffd", "") + "\x01\x01"
        got = await link.answer(case.questions[4], max_tokens=TOKENS, stop=[almost])
        assert (got.text, got.ids) == (whole.text, whole.ids)
        assert got.reason == chat_pb2.FINISH_REASON_LENGTH
