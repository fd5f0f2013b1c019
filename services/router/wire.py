"""Turns an answer's events into the router's own messages."""

from collections.abc import Iterable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from services.kit.errors import WeftError, rpc_code, seconds_to_duration
from services.router.convert import WIRE_REASONS
from services.router.core.grounding import Grounding
from services.router.core.pick import Candidate, Lost, Pick
from services.router.core.reason import reason
from services.router.core.worker import Worker, WorkerState
from services.router.events import Accepted, Event, Failed, Finished, Moved, PassagesFound, Progress, Stage
from weft.chat.v1 import chat_pb2
from weft.router.v1 import router_pb2

_VARINTS = [bytes((n,)) if n < 0x80 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(0x4000)]
"""The numbers that take one byte or two, since each token needs five of them."""
_STAGES = {
    Stage.QUEUED: router_pb2.Progress.STAGE_QUEUED,
    Stage.RETRIEVING: router_pb2.Progress.STAGE_RETRIEVING,
    Stage.PREFILL: router_pb2.Progress.STAGE_PREFILL,
    Stage.DECODE: router_pb2.Progress.STAGE_DECODE,
}
_STATES = {
    WorkerState.CONNECTING: router_pb2.Worker.STATE_CONNECTING,
    WorkerState.SERVING: router_pb2.Worker.STATE_SERVING,
    WorkerState.SUSPECT: router_pb2.Worker.STATE_SUSPECT,
    WorkerState.DRAINING: router_pb2.Worker.STATE_DRAINING,
    WorkerState.AWAY: router_pb2.Worker.STATE_AWAY,
}


def tokens_bytes(text: str, index: int, ids: Sequence[int], logprobs: Sequence[chat_pb2.TokenLogprob]) -> bytes:
    """A StreamChatResponse that holds tokens, serialised: by hand, since this is done for every token."""
    if logprobs:
        tokens = router_pb2.Tokens(text=text, index=index, token_ids=ids, logprobs=logprobs)
        return router_pb2.StreamChatResponse(tokens=tokens).SerializeToString()
    raw = text.encode()
    packed = varint(ids[0]) if len(ids) == 1 else b"".join([varint(token_id) for token_id in ids])
    # Fields 1 (text), 2 (index) and 3 (token_ids, packed) within field 4 (tokens). A field that stands there though it
    # is zero or empty reads the same as one that is left out.
    body = b"".join((b"\x0a", varint(len(raw)), raw, b"\x10", varint(index), b"\x1a", varint(len(packed)), packed))
    return b"\x22" + varint(len(body)) + body


def varint(number: int) -> bytes:
    """A number in groups of seven bits, the lowest first."""
    if number < 0x4000:
        return _VARINTS[number]
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def event_message(event: Event) -> router_pb2.StreamChatResponse:
    """One event as StreamChat sends it."""
    match event:
        case Accepted():
            accepted = router_pb2.Accepted(
                request_id=event.request_id,
                worker_id=event.worker_id,
                model=event.model,
                pick_reason=event.pick_reason,
                queue_position=event.queue_position,
            )
            return router_pb2.StreamChatResponse(accepted=accepted)
        case Progress():
            wait_s = event.expected_wait_s
            progress = router_pb2.Progress(
                stage=_STAGES[event.stage],
                queue_position=event.queue_position,
                expected_wait=None if wait_s is None else seconds_to_duration(wait_s),
            )
            return router_pb2.StreamChatResponse(progress=progress)
        case PassagesFound():
            return router_pb2.StreamChatResponse(passages=router_pb2.Passages(passages=event.passages))
        case Moved():
            moved = router_pb2.Moved(
                from_worker_id=event.from_worker_id,
                to_worker_id=event.to_worker_id,
                reason=event.reason,
                index=event.index,
            )
            return router_pb2.StreamChatResponse(moved=moved)
        case Finished():
            return router_pb2.StreamChatResponse(finished=_finished(event))
        case Failed():
            return router_pb2.StreamChatResponse(failed=failed_message(event.error))


def _finished(event: Finished) -> router_pb2.Finished:
    timing = event.timing
    return router_pb2.Finished(
        reason=WIRE_REASONS[event.reason],
        usage=chat_pb2.Usage(
            prompt_tokens=event.usage.prompt_tokens,
            cached_tokens=event.usage.cached_tokens,
            completion_tokens=event.usage.completion_tokens,
        ),
        timing=router_pb2.Timing(
            ttft=None if timing.ttft_s is None else seconds_to_duration(timing.ttft_s),
            total=seconds_to_duration(timing.total_s),
            retrieval=None if timing.retrieval_s is None else seconds_to_duration(timing.retrieval_s),
        ),
        worker_id=event.worker_id,
        attempts=event.attempts,
        grounding=None if event.grounding is None else grounding_message(event.grounding),
    )


def grounding_message(grounding: Grounding) -> router_pb2.Grounding:
    """How well an answer rests on its passages."""
    return router_pb2.Grounding(
        citations=[
            router_pb2.Citation(
                number=c.number, offset=c.offset, valid=c.valid, document_id=c.document_id, chunk_id=c.chunk_id
            )
            for c in grounding.citations
        ],
        unsupported=[
            router_pb2.Unsupported(start_offset=u.start, end_offset=u.end, support=u.support)
            for u in grounding.unsupported
        ],
        supported_share=grounding.supported_share,
        given_passages=grounding.given_passages,
    )


def failed_message(error: WeftError) -> router_pb2.Failed:
    """An error as an event."""
    delay_s = error.retry_delay_s
    return router_pb2.Failed(
        code=rpc_code(error),
        reason=error.reason,
        message=error.message,
        retry_delay=None if delay_s is None else seconds_to_duration(delay_s),
    )


def worker_messages(rows: Iterable[Worker], model: str, wall_offset_s: float) -> list[router_pb2.Worker]:
    """The rows that serve a model or adapter, or all where it is empty.

    `wall_offset_s` turns the router's clock into Unix time.
    """
    return [_worker(row, wall_offset_s) for row in rows if not model or row.serves(model)]


def _worker(row: Worker, wall_offset_s: float) -> router_pb2.Worker:
    hello, load = row.hello, row.load
    return router_pb2.Worker(
        worker_id=row.worker_id,
        address=row.address,
        model=row.model,
        engine=hello.engine if hello else "",
        state=_STATES[row.state],
        state_reason=row.state_reason,
        running=load.running,
        waiting=load.waiting,
        queued_tokens=load.queued_tokens,
        in_flight=row.in_flight,
        kv_usage=load.kv_usage,
        step_time=seconds_to_duration(load.step_time_s),
        max_running=hello.max_running if hello else 0,
        max_waiting=hello.max_waiting if hello else 0,
        finished=row.finished,
        failed=row.failed,
        restarts=row.restarts,
        serving_since=timestamp(row.since_s + wall_offset_s) if hello else None,
        incarnation=hello.incarnation if hello else "",
        adapters=hello.adapters if hello else (),
    )


def timestamp(unix_s: float) -> Timestamp:
    """Seconds since 1970 as a protobuf Timestamp."""
    stamp = Timestamp()
    stamp.FromNanoseconds(int(unix_s * 1e9))
    return stamp


def explained(found: Pick, policy: str) -> router_pb2.ExplainPickResponse:
    """A pick with everyone who was looked at."""
    return router_pb2.ExplainPickResponse(
        worker_id=found.worker.worker_id if found.worker else "",
        policy=policy,
        candidates=[
            router_pb2.Candidate(
                worker_id=c.worker.worker_id,
                score=c.score,
                lost_because=_lost_because(c, policy),
            )
            for c in found.candidates
        ],
    )


def _lost_because(candidate: Candidate, policy: str) -> str:
    if candidate.lost in (Lost.NOT_SERVING, Lost.SUSPECT):
        return candidate.worker.state_reason or str(candidate.lost.value)
    if candidate.lost is Lost.LOWER_SCORE and candidate.parts is not None:
        return f"{candidate.lost.value}: {reason(policy, candidate.parts)}"
    return str(candidate.lost.value)
