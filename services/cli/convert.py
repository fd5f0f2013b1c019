"""Turns the mesh's messages into what the commands show."""

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from services.kit.errors import WeftError, duration_to_seconds, error_for
from weft.chat.v1 import chat_pb2
from weft.retriever.v1 import retriever_pb2
from weft.router.v1 import router_pb2


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that the model could cite, by its number."""

    number: int
    title: str
    source: str
    page: int
    heading_path: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Sources:
    """What was retrieved, best first."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that people may want to know while they wait."""

    text: str


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A sentence with too little support in the sources: where it stands in the answer, in characters."""

    start_offset: int
    end_offset: int
    support: float


@dataclass(frozen=True, slots=True)
class Grounding:
    """How well the answer rests on its sources. `dangling` are the numbers that it cites and no source has."""

    dangling: tuple[int, ...]
    unsupported: tuple[Unsupported, ...]
    supported_share: float
    given_passages: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete. `reason` is stop, length, deadline, cancelled or nothing_found.

    `ttft_s` is 0 without a token; `grounding` is None without retrieval.
    """

    reason: str
    worker_id: str
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    ttft_s: float
    total_s: float
    grounding: Grounding | None = None


Event = Text | Sources | Note | Finished | WeftError

_STAGES = {
    router_pb2.Progress.STAGE_QUEUED: "waiting for a worker",
    router_pb2.Progress.STAGE_RETRIEVING: "retrieving passages",
    router_pb2.Progress.STAGE_PREFILL: "reading the prompt",
    router_pb2.Progress.STAGE_DECODE: "the next token takes its time",
}


def to_event(message: router_pb2.StreamChatResponse) -> Event | None:
    """The event to show; None for those that say nothing to people."""
    match message.WhichOneof("event"):
        case "tokens":
            return Text(message.tokens.text)
        case "passages":
            return Sources(tuple(_sources(message.passages.passages)))
        case "progress":
            return Note(_STAGES.get(message.progress.stage, "still at it"))
        case "moved":
            moved = message.moved
            return Note(f"{moved.from_worker_id} failed ({moved.reason}); {moved.to_worker_id} goes on")
        case "finished":
            return _finished(message.finished)
        case "failed":
            failed = message.failed
            delay_s = duration_to_seconds(failed.retry_delay) if failed.HasField("retry_delay") else None
            return error_for(failed.code, failed.message, reason=failed.reason, retry_delay_s=delay_s)
    return None


def _sources(passages: Iterable[retriever_pb2.Passage]) -> Iterable[Source]:
    for number, passage in enumerate(passages, start=1):
        yield Source(
            number=number,
            title=passage.title,
            source=passage.source,
            page=passage.page,
            heading_path=tuple(passage.heading_path),
            text=passage.text,
        )


def _finished(message: router_pb2.Finished) -> Finished:
    return Finished(
        reason=chat_pb2.FinishReason.Name(message.reason).removeprefix("FINISH_REASON_").lower(),
        worker_id=message.worker_id,
        attempts=message.attempts,
        prompt_tokens=message.usage.prompt_tokens,
        completion_tokens=message.usage.completion_tokens,
        ttft_s=duration_to_seconds(message.timing.ttft),
        total_s=duration_to_seconds(message.timing.total),
        grounding=_grounding(message.grounding) if message.HasField("grounding") else None,
    )


def _grounding(message: router_pb2.Grounding) -> Grounding:
    return Grounding(
        dangling=tuple(sorted({citation.number for citation in message.citations if not citation.valid})),
        unsupported=tuple(
            Unsupported(one.start_offset, one.end_offset, round(one.support, 3)) for one in message.unsupported
        ),
        supported_share=round(message.supported_share, 3),
        given_passages=message.given_passages,
    )


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker of the router's table. `state` is connecting, serving, suspect, draining or away."""

    worker_id: str
    model: str
    engine: str
    address: str
    state: str
    state_reason: str
    running: int
    waiting: int
    in_flight: int
    queued_tokens: int
    kv_usage: float
    step_ms: float
    max_running: int
    finished: int
    failed: int
    restarts: int


def to_row(worker: router_pb2.Worker) -> WorkerRow:
    """The row of one worker."""
    return WorkerRow(
        worker_id=worker.worker_id,
        model=worker.model,
        engine=worker.engine,
        address=worker.address,
        state=router_pb2.Worker.State.Name(worker.state).removeprefix("STATE_").lower(),
        state_reason=worker.state_reason,
        running=worker.running,
        waiting=worker.waiting,
        in_flight=worker.in_flight,
        queued_tokens=worker.queued_tokens,
        kv_usage=round(worker.kv_usage, 4),
        step_ms=_milliseconds(worker.step_time),
        max_running=worker.max_running,
        finished=worker.finished,
        failed=worker.failed,
        restarts=worker.restarts,
    )


def _milliseconds(duration: Duration) -> float:
    return round(duration_to_seconds(duration) * 1e3, 2)


@dataclass(frozen=True, slots=True)
class Ingested:
    """How one document fared. `status` is indexed, unchanged, replaced, duplicate or failed.

    `problem` says why it failed, `near_duplicate_of` names a document that is nearly the same.
    """

    position: int
    source: str
    status: str
    chunks: int
    problem: str
    near_duplicate_of: str = ""


def to_ingested(message: retriever_pb2.IngestDocumentsResponse) -> Ingested:
    """The status of one document."""
    return Ingested(
        position=message.position,
        source=message.source,
        status=retriever_pb2.IngestDocumentsResponse.Status.Name(message.status).removeprefix("STATUS_").lower(),
        chunks=message.chunks,
        problem=message.failure.message,
        near_duplicate_of=message.near_duplicate_of,
    )
