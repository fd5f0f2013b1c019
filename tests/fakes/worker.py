"""A scripted worker on a real socket: the router's tests say what it answers and when it fails."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2, worker_pb2_grpc

Send = Callable[[worker_pb2.AttachResponse], Any]


@dataclass
class FakeWorker(worker_pb2_grpc.WorkerServiceServicer):
    """Answers each start with `words`, one token each, in messages of one token, and reports its load.

    `die_after` ends the link once that many tokens of a request are out; `die_once_after` does so for the first
    request alone. `refuse` answers starts with a failure. `silent` takes requests and sends nothing. `hold_after` stops
    after that many tokens until `go` is set. `skip_index` leaves a gap there. Without `steps` the step counter stands
    still. One that is `text_only` sends ids of 0 and goes on after `resume_text`, whatever tokens that had.
    """

    worker_id: str = "w1"
    model: str = "tale"
    words: tuple[str, ...] = ("once", " upon", " a", " time")
    fingerprint: str = "words"
    max_running: int = 8
    max_waiting: int = 8
    die_after: int | None = None
    refuse: worker_pb2.Failure | None = None
    silent: bool = False
    hold_after: int | None = None
    skip_index: int | None = None
    die_once_after: int | None = None
    steps: bool = True
    adapters: tuple[str, ...] = ()
    structured_output: bool = False
    replays_structure: bool = False
    text_only: bool = False
    broken: str = ""
    incarnation: str = "first"
    starts: list[worker_pb2.Start] = field(default_factory=list)
    cancelled: "asyncio.Queue[int]" = field(default_factory=asyncio.Queue)
    started: "asyncio.Queue[worker_pb2.Start]" = field(default_factory=asyncio.Queue)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    attached: asyncio.Event = field(default_factory=asyncio.Event)
    address: str = ""

    async def Attach(self, request_iterator: Any, context: Any) -> None:
        """Serves one link."""
        first = await context.read()
        assert first.WhichOneof("kind") == "open"
        await context.write(worker_pb2.AttachResponse(hello=self._hello(), load=worker_pb2.Load(broken=self.broken)))
        self.attached.set()
        outbox: asyncio.Queue[worker_pb2.AttachResponse | None] = asyncio.Queue()
        answers: set[asyncio.Task[None]] = set()
        tasks = [
            asyncio.create_task(self._read(context, outbox, answers)),
            asyncio.create_task(self._report(outbox, answers)),
        ]
        try:
            while (message := await outbox.get()) is not None:
                await context.write(message)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the fake worker died")
        finally:
            for task in [*tasks, *answers]:
                task.cancel()

    async def _report(self, outbox: "asyncio.Queue[Any]", answers: "set[asyncio.Task[None]]") -> None:
        count = 0
        while True:
            running = sum(not task.done() for task in answers)
            load = worker_pb2.Load(running=running, step_count=count, broken=self.broken)
            outbox.put_nowait(worker_pb2.AttachResponse(load=load))
            count += self.steps
            await asyncio.sleep(0.02)

    def _hello(self) -> worker_pb2.Hello:
        return worker_pb2.Hello(
            worker_id=self.worker_id,
            incarnation=self.incarnation,
            model=self.model,
            engine="fake",
            limits=worker_pb2.Limits(max_running=self.max_running, max_waiting=self.max_waiting, context_tokens=4096),
            tokenizer_fingerprint=self.fingerprint,
            capabilities=worker_pb2.Capabilities(
                exact_resume=True,
                logprobs=True,
                structured_output=self.structured_output,
                replays_structure=self.replays_structure,
                text_only=self.text_only,
            ),
            adapters=self.adapters,
        )

    async def _read(self, context: Any, outbox: "asyncio.Queue[Any]", answers: "set[asyncio.Task[None]]") -> None:
        running: dict[int, asyncio.Task[None]] = {}
        while (message := await context.read()) is not grpc.aio.EOF:
            if message.HasField("start"):
                self.starts.append(message.start)
                self.started.put_nowait(message.start)
                task = asyncio.create_task(self._answer(message.start, outbox))
                running[message.start.request] = task
                answers.add(task)
            elif message.HasField("cancel"):
                number = message.cancel.request
                if (found := running.pop(number, None)) is not None and not found.done():
                    found.cancel()
                    finish = worker_pb2.Finish(reason=chat_pb2.FINISH_REASON_CANCELLED)
                    outbox.put_nowait(_ended(worker_pb2.Ended(request=number, finish=finish)))
                self.cancelled.put_nowait(number)

    async def _answer(self, start: worker_pb2.Start, outbox: "asyncio.Queue[Any]") -> None:
        number = start.request
        if self.refuse is not None:
            outbox.put_nowait(_ended(worker_pb2.Ended(request=number, failure=self.refuse)))
            return
        outbox.put_nowait(
            worker_pb2.AttachResponse(started=[worker_pb2.Started(request=number, prompt_tokens=len(start.request_id))])
        )
        if self.silent:
            return
        first = len(start.resume_token_ids)
        words = self.words
        if self.text_only:
            words = (*[""] * first, "".join(words)[len(start.resume_text) :]) if first else words
        for index in range(first, len(words)):
            if index in (self.die_after, self.die_once_after):
                self.die_once_after = None
                outbox.put_nowait(None)
                return
            if index == self.hold_after:
                await self.go.wait()
            shown = index + 1 if index == self.skip_index else index
            delta = worker_pb2.Delta(
                request=number, index=shown, token_ids=[0 if self.text_only else 100 + index], text=words[index]
            )
            outbox.put_nowait(worker_pb2.AttachResponse(deltas=[delta]))
        usage = chat_pb2.Usage(prompt_tokens=7, cached_tokens=2, completion_tokens=len(self.words))
        finish = worker_pb2.Finish(reason=chat_pb2.FINISH_REASON_STOP, usage=usage)
        outbox.put_nowait(_ended(worker_pb2.Ended(request=number, finish=finish)))


def _ended(ended: worker_pb2.Ended) -> worker_pb2.AttachResponse:
    return worker_pb2.AttachResponse(ended=[ended])


@asynccontextmanager
async def listening(worker: FakeWorker, port: int = 0) -> AsyncIterator[FakeWorker]:
    """Serves the worker on loopback; `address` says where."""
    server = grpc.aio.server()
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(worker, server)
    worker.address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    await server.start()
    try:
        yield worker
    finally:
        await server.stop(0)
