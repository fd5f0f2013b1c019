"""A flow: what piles up for a slow client leaves as one message, in order, and never without bound."""

import asyncio
from collections.abc import Sequence

from services.router.core.chat import FinishReason, Usage
from services.router.core.recover import Ended, Failure, FailureKind
from services.router.flow import Flow
from weft.chat.v1.chat_pb2 import TokenLogprob
from weft.worker.v1.worker_pb2 import Delta


def delta(index: int, *texts: str) -> Delta:
    return Delta(index=index, token_ids=range(index, index + len(texts)), text="".join(texts))


async def test_what_piles_up_is_one_message() -> None:
    flow = Flow(0, 1000)
    flow.tokens(delta(0, "a"))
    flow.tokens(delta(1, "b", "c"))
    await flow.wait()
    assert flow.take() == ("abc", [0, 1, 2], [])
    flow.tokens(delta(3, "d"))
    assert flow.take()[:2] == ("d", [3])


async def test_waiter_wakes_for_each_kind_of_news() -> None:
    for news in (
        lambda flow: flow.tokens(delta(0, "a")),
        lambda flow: flow.started(3, 0),
        lambda flow: flow.end(Ended(FinishReason.STOP, Usage())),
        lambda flow: flow.tick(),
    ):
        flow = Flow(0, 1000)
        waiting = asyncio.ensure_future(flow.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        news(flow)
        async with asyncio.timeout(1):
            await waiting


async def test_tokens_pass_a_relay_that_waits_and_no_other() -> None:
    flow, pushed, room = Flow(0, 1000), [], [True, True, False, True]

    def push(text: str, ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> bool:
        if taken := room.pop(0):
            pushed.append((text, list(ids)))
        return taken

    flow.tokens(delta(0, "a"))
    flow.pushes_to(push)
    flow.tokens(delta(1, "b"))
    assert not pushed, "the relay does not wait, so what is pending comes first"
    assert flow.take()[0] == "ab"
    relay = asyncio.ensure_future(flow.wait())
    await asyncio.sleep(0)
    flow.tokens(delta(2, "c"))
    flow.tokens(delta(3, "d", "e"))
    assert pushed == [("c", [2]), ("de", [3, 4])]
    assert not relay.done(), "its task sleeps on"
    flow.tokens(delta(5, "f"))
    flow.tokens(delta(6, "g"))
    async with asyncio.timeout(1):
        await relay
    assert flow.take()[:2] == ("fg", [5, 6]), "from the first that had no room"
    assert len(pushed) == 2
    assert flow.next_index == 7


async def test_end_and_gap_are_not_overtaken() -> None:
    flow, pushed = Flow(0, 1000), []
    flow.pushes_to(lambda *tokens: not pushed.append(tokens))
    relay = asyncio.ensure_future(flow.wait())
    await asyncio.sleep(0)
    flow.tokens(delta(0, "a"))
    flow.end(Ended(FinishReason.STOP, Usage()))
    flow.tokens(delta(1, "late"))
    await relay
    assert len(pushed) == 1
    gap = Flow(0, 1000)
    gap.pushes_to(lambda *tokens: not pushed.append(tokens))
    relay = asyncio.ensure_future(gap.wait())
    await asyncio.sleep(0)
    gap.tokens(delta(3, "c"))
    await relay
    assert len(pushed) == 1
    assert isinstance(gap.outcome, Failure)


async def test_gap_ends_the_flow_and_tells_the_engine() -> None:
    flow, told = Flow(2, 1000), []
    flow.carried_by(lambda: told.append(True))
    flow.tokens(delta(2, "a"))
    flow.tokens(delta(4, "c"))
    flow.tokens(delta(3, "late"))
    assert flow.take()[:2] == ("a", [2])
    assert isinstance(flow.outcome, Failure)
    assert flow.outcome.reason == "INDEX_GAP"
    assert told


async def test_bound_counts_tokens_without_text_too() -> None:
    flow = Flow(0, 100)
    for index in range(100):
        flow.tokens(delta(index, ""))
    assert isinstance(flow.outcome, Failure)
    assert flow.outcome.kind is FailureKind.SLOW_CLIENT
    assert len(flow.ids) < 100


async def test_first_outcome_stands() -> None:
    flow = Flow(0, 100)
    flow.end(Ended(FinishReason.STOP, Usage()))
    flow.end(Failure(FailureKind.LINK_LOST, "late"))
    assert flow.outcome == Ended(FinishReason.STOP, Usage())


async def test_ids_without_text_and_log_probabilities_count_too() -> None:
    flow = Flow(0, 1000)
    flow.tokens(Delta(index=0, token_ids=[0] * 1000))
    assert isinstance(flow.outcome, Failure)
    assert flow.outcome.kind is FailureKind.SLOW_CLIENT
    flow = Flow(0, 1000)
    others = [TokenLogprob(text="another", logprob=-1.0)] * 20
    for index in range(10):
        logprob = TokenLogprob(text="a", logprob=-1.0, alternatives=others)
        flow.tokens(Delta(index=index, token_ids=[index], text="a", logprobs=[logprob]))
    assert isinstance(flow.outcome, Failure)
    assert flow.outcome.kind is FailureKind.SLOW_CLIENT
