"""A conversation over Converse: the person's turns go out, their answers come back and are printed."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Any, NoReturn, Protocol

import grpc.aio
from rich.console import Console

from services.cli.answer import Answer, Printer
from services.cli.convert import to_event
from services.cli.problem import Problem
from services.kit.errors import WeftError
from weft.router.v1 import router_pb2, router_pb2_grpc


class Lines(Protocol):
    """Where the person's turns come from."""

    async def next(self) -> str | None:
        """The next turn; None when the person ends the conversation."""


class Conversation:
    """One conversation on one stream."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        settings: router_pb2.StreamChatRequest,
        lines: Lines,
        out: Console,
        notes: Console,
    ) -> None:
        self._call: Any = router_pb2_grpc.RouterServiceStub(channel).Converse()
        self._settings = settings
        self._lines = lines
        self._out = out
        self._notes = notes
        self._answering = False
        self._ended = asyncio.Event()
        self._call.add_done_callback(lambda _: self._ended.set())

    def __repr__(self) -> str:
        return f"Conversation(answering={self._answering})"

    async def run(self) -> None:
        """Until the person ends it. AioRpcError where the stream breaks."""
        try:
            with self._interrupts():
                opening = router_pb2.ConversationOpen(settings=self._settings)
                await self._send(router_pb2.ConverseRequest(open=opening))
                while (line := await self._next_line()) is not None:
                    if line.strip():
                        await self._turn(line)
                await self._call.done_writing()
                self._out.print()
        finally:
            self._call.cancel()

    async def _next_line(self) -> str | None:
        """The person's next line. Raises what the stream ended with, when it ends meanwhile."""
        line = asyncio.create_task(self._lines.next())
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait([line, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            if not line.done():
                line.cancel()
        if self._ended.is_set():
            await self._raise_end()
        return line.result()

    async def _send(self, request: router_pb2.ConverseRequest) -> None:
        try:
            await self._call.write(request)
        except asyncio.InvalidStateError:
            # gRPC says this of a stream that has ended.
            await self._raise_end()

    async def _raise_end(self) -> NoReturn:
        """Raises the status that the stream ended with, or a Problem where it ended well, which is too early."""
        await self._call.read()
        raise Problem("the mesh ended the conversation: start a new one with `weft chat`")

    async def _turn(self, content: str) -> None:
        """One turn and its whole answer; a turn that fails leaves the conversation open."""
        answer, printer = Answer(), Printer(self._out, self._notes)
        await self._send(router_pb2.ConverseRequest(turn=router_pb2.UserTurn(content=content)))
        self._answering = True
        try:
            while answer.finished is None:
                message = await self._call.read()
                if message is grpc.aio.EOF:
                    await self._raise_end()
                event = to_event(message.event)
                answer.take(event)
                printer.event(event)
        except WeftError as error:
            self._out.print()
            self._notes.print(error.message, style="red", markup=False, soft_wrap=True)
            return
        finally:
            self._answering = False
        printer.end(answer)

    @contextlib.contextmanager
    def _interrupts(self) -> Iterator[None]:
        """Ctrl-C cancels the turn under way; between turns it says how to end."""
        loop = asyncio.get_running_loop()
        cancels: set[asyncio.Task[None]] = set()

        async def cancel() -> None:
            await self._send(router_pb2.ConverseRequest(cancel=router_pb2.CancelTurn()))

        def received() -> None:
            if not self._answering:
                self._notes.print("\n(Ctrl-D ends)", style="dim")
            elif not cancels:
                task = asyncio.create_task(cancel())
                cancels.add(task)
                task.add_done_callback(cancels.discard)

        loop.add_signal_handler(signal.SIGINT, received)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            for task in cancels:
                task.cancel()
