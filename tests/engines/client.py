"""One link to a worker, as a router uses it, with the questions that the suite asks of every engine."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio

from tests.rpc.worker.harness import LinkClient
from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2 as pb
from weft.worker.v1 import worker_pb2_grpc

MESSAGE_BYTES = 48 * 1024 * 1024
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", MESSAGE_BYTES)]


@dataclass(frozen=True, slots=True)
class Whole:
    """A complete answer. `shown` is the text that a client had after so many tokens, where it ever stood there."""

    ids: list[int]
    text: str
    finish: pb.Finish
    shown: dict[int, str]
    logprobs: list[chat_pb2.TokenLogprob]

    @property
    def reason(self) -> int:
        return self.finish.reason

    @property
    def usage(self) -> chat_pb2.Usage:
        return self.finish.usage


class EngineLink(LinkClient):
    """Numbers its requests itself."""

    def __init__(self, call: "grpc.aio.StreamStreamCall[pb.AttachRequest, pb.AttachResponse]") -> None:
        super().__init__(call)
        self._next = 0

    @property
    def hello(self) -> pb.Hello:
        """Who the worker is."""
        return self.messages[0].hello

    async def ask(
        self,
        prompt: pb.Prompt,
        *,
        resume: Sequence[int] = (),
        resume_text: str = "",
        model: str = "",
        request_id: str = "",
        timeout_s: float = 0.0,
        **sampling: object,
    ) -> int:
        """Starts a request, greedy where nothing else is said; its number."""
        self._next += 1
        self.resumed[self._next] = len(resume)
        start = pb.Start(
            request=self._next,
            request_id=request_id,
            model=model,
            prompt=prompt,
            sampling=chat_pb2.Sampling(**{"temperature": 0.0, **sampling}),  # type: ignore[arg-type]
            resume_token_ids=resume,
            resume_text=resume_text,
        )
        if timeout_s:
            start.timeout.FromNanoseconds(int(timeout_s * 1e9))
        await self.send(start=start)
        return self._next

    async def answer(self, prompt: pb.Prompt, **how: object) -> Whole:
        """Asks and reads to the end, which has to be a finish."""
        return await self.whole(await self.ask(prompt, **how))  # type: ignore[arg-type]

    async def whole(self, request: int) -> Whole:
        """Reads a request to its end, which has to be a finish."""
        ended = await self.ended(request)
        assert ended.HasField("finish"), ended
        got = self.answers[request]
        shown, text, count, logprobs = {0: ""}, "", 0, []
        for delta in (delta for message in self.messages for delta in message.deltas if delta.request == request):
            text += delta.text
            count += len(delta.token_ids)
            shown[count] = text
            logprobs += delta.logprobs
        return Whole(list(got.ids), got.text, ended.finish, shown, logprobs)

    async def refused(self, prompt: pb.Prompt, **how: object) -> pb.Failure:
        """Asks and reads to the end, which has to be a failure."""
        ended = await self.ended(await self.ask(prompt, **how))  # type: ignore[arg-type]
        assert ended.HasField("failure"), ended
        return ended.failure

    async def cancel(self, *requests: int) -> None:
        """Cancels these and waits for their ends."""
        for request in requests:
            await self.send(cancel=pb.Cancel(request=request))
        for request in requests:
            await self.ended(request)

    async def idle(self) -> pb.Load:
        """Reads until a reading says that the engine does nothing."""
        await self.until(lambda link: link.load.running == 0 and link.load.waiting == 0)
        return self.load

    async def busy(self, done: Callable[[pb.Load], bool]) -> pb.Load:
        """Reads until a reading says so."""
        await self.until(lambda link: done(link.load))
        return self.load


@asynccontextmanager
async def linked(address: str, router_id: str = "conformance") -> AsyncIterator[EngineLink]:
    """A link that has said hello, over a connection of its own; it is cancelled at the end."""
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        call = worker_pb2_grpc.WorkerServiceStub(channel).Attach()
        link = EngineLink(call)  # type: ignore[arg-type]  # the stubs show the blocking call
        await link.send(open=pb.Open(router_id=router_id))
        await link.read()
        try:
            yield link
        finally:
            call.cancel()


async def generated(address: str, prompt: pb.Prompt, **sampling: object) -> Whole:
    """The same question through Generate, one stream for one answer."""
    request = pb.GenerateRequest(
        prompt=prompt,
        sampling=chat_pb2.Sampling(**{"temperature": 0.0, **sampling}),  # type: ignore[arg-type]
    )
    ids: list[int] = []
    logprobs: list[chat_pb2.TokenLogprob] = []
    shown, text, kinds = {0: ""}, "", []
    finish = pb.Finish()
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        async for event in worker_pb2_grpc.WorkerServiceStub(channel).Generate(request):
            kinds.append(event.WhichOneof("event"))
            if event.HasField("delta"):
                assert event.delta.index == len(ids)
                ids += event.delta.token_ids
                text += event.delta.text
                shown[len(ids)] = text
                logprobs += event.delta.logprobs
            elif event.HasField("ended"):
                finish = event.ended.finish
    assert kinds[0] == "started" and kinds[-1] == "ended" and set(kinds[1:-1]) <= {"delta"}, kinds
    return Whole(ids, text, finish, shown, logprobs)
