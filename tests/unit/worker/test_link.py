"""The queue of one link: what may join a message that waits, and what happens at the limit and at the end."""

import pytest

from services.kit.errors import Exhausted, Unavailable
from services.worker.link import ENTRIES_LIMIT, Link
from weft.worker.v1 import worker_pb2 as pb


def started(request: int) -> pb.AttachResponse:
    return pb.AttachResponse(started=[pb.Started(request=request)], load=pb.Load(running=request))


def delta(index: int) -> pb.AttachResponse:
    return pb.AttachResponse(deltas=[pb.Delta(request=1, index=index, token_ids=[7])], load=pb.Load())


async def test_starts_that_pile_up_are_one_message_with_the_newest_load() -> None:
    link = Link(16, "router")
    for request in (3, 2, 1):
        link.put(started(request), 0.0)
    link.put(delta(0), 0.0)
    message = await link.take()
    assert [one.request for one in message.started] == [3, 2, 1]
    assert len(message.deltas) == 1
    assert message.load == pb.Load(), "an older reading's fields do not shine through"


async def test_two_steps_stay_two_messages_and_hello_stands_alone() -> None:
    link = Link(16, "router")
    link.put(pb.AttachResponse(hello=pb.Hello(worker_id="w")), 0.0)
    for index in range(3):
        link.put(delta(index), 0.0)
    assert (await link.take()).hello.worker_id == "w"
    assert [(await link.take()).deltas[0].index for _ in range(3)] == [0, 1, 2]


async def test_cache_events_never_pile_up_in_one_message() -> None:
    link = Link(16, "router")
    for number in range(3):
        stored = pb.KvEvent(stored=pb.KvStored(prefix_hashes=[number]))
        link.put(pb.AttachResponse(kv_events=[stored]), 0.0)
        link.put(started(number), 0.0)
    messages = [await link.take() for _ in range(3)]
    assert [list(message.kv_events[0].stored.prefix_hashes) for message in messages] == [[0], [1], [2]]
    assert [message.started[0].request for message in messages] == [0, 1, 2]


async def test_over_the_limit_it_is_cut_with_a_reason() -> None:
    link = Link(16, "router 'slow'")
    for index in range(16):
        link.put(delta(index), 0.0)
    assert not link.cut.is_set()
    link.put(delta(16), 0.0)
    assert link.cut.is_set()
    with pytest.raises(Exhausted, match="router 'slow' does not read"):
        await link.take()


async def test_a_closed_link_is_read_to_its_end() -> None:
    link = Link(16, "router")
    link.put(delta(0), 0.0)
    link.close(Unavailable("stopping"))
    link.put(delta(1), 0.0)
    assert (await link.take()).deltas[0].index == 0
    with pytest.raises(Unavailable, match="stopping"):
        await link.take()


async def test_a_reader_that_sends_requests_and_reads_nothing_is_cut_too() -> None:
    link = Link(16, "router 'deaf'")
    for request in range(20 * ENTRIES_LIMIT):
        link.put(pb.AttachResponse(ended=[pb.Ended(request=request)]), 0.0)
        if link.cut.is_set():
            break
    assert request == 16 * ENTRIES_LIMIT
    with pytest.raises(Exhausted):
        await link.take()
