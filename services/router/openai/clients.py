"""Answers on their way to OpenAI clients: as server-sent events, or gathered into one body."""

from collections.abc import Sequence

from google.api.httpbody_pb2 import HttpBody

from services.kit.errors import WeftError
from services.router.events import Accepted, Event, Failed, Finished, Moved, PassagesFound, Progress
from services.router.openai.format import ALIVE, DONE, Chunks, Shape, whole_json
from services.router.outlet import Outlet
from services.router.wire import varint
from weft.chat.v1.chat_pb2 import TokenLogprob
from weft.retriever.v1.retriever_pb2 import Passage

EVENT_STREAM = "text/event-stream"
JSON = "application/json"


_SSE_HEAD: bytes = HttpBody(content_type=EVENT_STREAM).SerializeToString() + b"\x12"
"""An HttpBody of server-sent events up to the length of its data, field 2."""


def sse_bytes(data: bytes) -> bytes:
    """An HttpBody of server-sent events, serialised by hand, since it is done for every token. `data` is not empty."""
    return _SSE_HEAD + varint(len(data)) + data


class SseClient:
    """Writes each event as chunks; a failure is a chunk too, since the status is sent already."""

    def __init__(self, outlet: Outlet, shape: Shape, created_s: int, *, include_usage: bool) -> None:
        self.pushes = outlet.pushes
        self._push = outlet.push
        self._write = outlet.write
        self._shape = shape
        self._created_s = created_s
        self._include_usage = include_usage
        self._chunks: Chunks | None = None

    def push(self, text: str, index: int, ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> bool:
        """See answer.Client."""
        if not text and not logprobs:
            return True
        assert self._chunks is not None, "an answer is accepted before its first token"
        return self._push(sse_bytes(self._chunks.tokens(text, logprobs)))

    async def tokens(self, text: str, index: int, ids: list[int], logprobs: list[TokenLogprob]) -> None:
        """See answer.Client. Tokens that complete no text are no chunk."""
        assert self._chunks is not None, "an answer is accepted before its first token"
        if text or logprobs:
            await self._send(self._chunks.tokens(text, logprobs))

    async def event(self, event: Event) -> None:
        """See answer.Client."""
        match event:
            case Accepted():
                self._chunks = Chunks(self._shape, event.request_id, event.model, self._created_s)
                # Headers go out with the first bytes, so even a stream without a first chunk sends some.
                await self._send(self._chunks.first() or ALIVE)
            case Progress() | Moved():
                await self._send(ALIVE)
            case PassagesFound():
                assert self._chunks is not None, "an answer is accepted before its passages are told"
                await self._send(self._chunks.found(event.passages))
            case Finished():
                assert self._chunks is not None, "an answer is accepted before it ends"
                usage = self._chunks.usage(event.usage) if self._include_usage else b""
                await self._send(self._chunks.last(event.reason, event.grounding) + usage + DONE)
            case Failed():
                assert self._chunks is not None, "an answer that was not accepted fails with a status"
                await self._send(self._chunks.failed(event.error) + DONE)

    async def _send(self, data: bytes) -> None:
        await self._write(HttpBody(content_type=EVENT_STREAM, data=data))


class WholeClient:
    """Gathers an answer; `body` is what to send when it is complete. The answer's length bounds what it holds."""

    pushes = True

    def __init__(self, shape: Shape, created_s: int) -> None:
        self._shape = shape
        self._created_s = created_s
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._request_id = self._model = ""
        self._passages: Sequence[Passage] | None = None
        self._finished: Finished | None = None
        self._error: WeftError | None = None

    def push(self, text: str, index: int, ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> bool:
        """See answer.Client."""
        self._texts.append(text)
        self._logprobs += logprobs
        return True

    async def tokens(self, text: str, index: int, ids: list[int], logprobs: list[TokenLogprob]) -> None:
        """See answer.Client."""
        self._texts.append(text)
        self._logprobs += logprobs

    async def event(self, event: Event) -> None:
        """See answer.Client."""
        match event:
            case Accepted():
                self._request_id, self._model = event.request_id, event.model
            case PassagesFound():
                self._passages = event.passages
            case Finished():
                self._finished = event
            case Failed():
                self._error = event.error
            case _:
                return

    def body(self) -> HttpBody:
        """The whole answer. Raises the error where it failed: nothing was sent, so it can be a status."""
        if self._error is not None:
            raise self._error
        assert self._finished is not None, "an answer that is over has finished or failed"
        data = whole_json(
            self._shape,
            self._request_id,
            self._model,
            self._created_s,
            "".join(self._texts),
            self._logprobs,
            self._finished,
            self._passages,
        )
        return HttpBody(content_type=JSON, data=data)
