"""RouterService: deadlines to numbers, wire to values, and back. It decides nothing and moves no worker's tokens."""

import asyncio
import ipaddress
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc.aio

from services.kit.clock import Now
from services.kit.errors import InvalidArgument, NotFound, PermissionDenied, seconds_to_duration
from services.kit.settings.router import RouterSettings
from services.router.answer import Answer
from services.router.converse import Conversation
from services.router.convert import chat_from, check_chat
from services.router.core.chat import Chat
from services.router.core.table import WorkerTable
from services.router.core.worker import WorkerState
from services.router.dispatch import Dispatch
from services.router.drains import Drains
from services.router.events import Event
from services.router.fleet import Fleet
from services.router.outlet import Outlet
from services.router.request_id import new_request_id
from services.router.waiting import WaitingRoom
from services.router.wire import event_message, explained, timestamp, tokens_bytes, worker_messages
from weft.chat.v1.chat_pb2 import TokenLogprob
from weft.router.v1 import router_pb2, router_pb2_grpc

WATCH_EVERY_S = 0.1
_ADDRESS = re.compile(r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):(\d{1,5})$")
_WORKER_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")

Context = grpc.aio.ServicerContext[Any, Any]


def deadline_of(chat: Chat, context: Context, settings: RouterSettings, now_s: float) -> float:
    """The earliest of the call's deadline, the request's timeout and the default, on the router's clock.

    The call's own deadline is brought forward a little: at the deadline itself the client is gone already, and could
    not be told what was produced.
    """
    left_s = chat.timeout_s if chat.timeout_s is not None else settings.default_timeout_s
    call_s = context.time_remaining()
    if call_s is not None:
        left_s = min(left_s, call_s - min(settings.deadline_margin_s, call_s / 10))
    return now_s + left_s


class ChatStream:
    """A client on a StreamChat call."""

    def __init__(self, outlet: Outlet) -> None:
        self.pushes = outlet.pushes
        self._push = outlet.push
        self._write = outlet.write

    def push(self, text: str, index: int, ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> bool:
        """See answer.Client."""
        return self._push(tokens_bytes(text, index, ids, logprobs))

    async def tokens(self, text: str, index: int, ids: list[int], logprobs: list[TokenLogprob]) -> None:
        """See answer.Client."""
        tokens = router_pb2.Tokens(text=text, index=index, token_ids=ids, logprobs=logprobs)
        await self._write(router_pb2.StreamChatResponse(tokens=tokens))

    async def event(self, event: Event) -> None:
        """See answer.Client."""
        await self._write(event_message(event))


class RouterServicer(router_pb2_grpc.RouterServiceServicer):
    """One object for each way in; `outlet` is what a call of it offers to answers."""

    def __init__(
        self,
        dispatch: Dispatch,
        table: WorkerTable,
        fleet: Fleet,
        drains: Drains,
        room: WaitingRoom,
        settings: RouterSettings,
        now: Now,
        outlet: Callable[[Any], Outlet],
    ) -> None:
        self._outlet = outlet
        self._dispatch = dispatch
        self._table = table
        self._fleet = fleet
        self._drains = drains
        self._room = room
        self._settings = settings
        self._now = now
        self._conversations: set[Conversation] = set()
        self._wall_offset_s = time.time() - now()

    async def StreamChat(self, request: router_pb2.StreamChatRequest, context: Context) -> None:  # type: ignore[override] # it writes to the context, so that no token passes a generator
        """See router.proto."""
        chat = chat_from(request)
        check_chat(chat, self._settings)
        answer = Answer(new_request_id(), ChatStream(self._outlet(context)), self._now)
        await self._dispatch.run(chat, answer, deadline_of(chat, context, self._settings, self._now()))

    async def Converse(self, request_iterator: Any, context: Context) -> None:  # type: ignore[override] # as above
        """See router.proto."""
        conversation = Conversation(self._dispatch, self._settings, self._now, context)
        self._conversations.add(conversation)
        try:
            await conversation.run()
        finally:
            self._conversations.discard(conversation)

    def stop(self) -> None:
        """The router stops: conversations end after the turns that are asked."""
        for conversation in self._conversations:
            conversation.stop()

    async def ListModels(
        self, request: router_pb2.ListModelsRequest, context: Context
    ) -> router_pb2.ListModelsResponse:
        """See router.proto."""
        return router_pb2.ListModelsResponse(models=[self._model(name) for name in sorted(self._table.models)])

    def _model(self, name: str) -> router_pb2.Model:
        rows = [row for row in self._table if row.serves(name)]
        return router_pb2.Model(
            name=name,
            serving_workers=sum(row.state is WorkerState.SERVING for row in rows),
            known_workers=len(rows),
            context_tokens=max((row.hello.context_tokens for row in rows if row.hello), default=0),
            first_seen=timestamp(self._table.models[name] + self._wall_offset_s),
            queued_requests=len(self._room.queue(name)),
            queued_tokens=self._room.queue(name).tokens,
        )

    async def ListWorkers(
        self, request: router_pb2.ListWorkersRequest, context: Context
    ) -> router_pb2.ListWorkersResponse:
        """See router.proto."""
        return router_pb2.ListWorkersResponse(workers=self._workers(request.model))

    def _workers(self, model: str) -> list[router_pb2.Worker]:
        return worker_messages(self._table, model, self._wall_offset_s)

    async def WatchWorkers(
        self, request: router_pb2.WatchWorkersRequest, context: Context
    ) -> AsyncIterator[router_pb2.WatchWorkersResponse]:
        """See router.proto."""
        seen = -1
        while True:
            if self._table.version != seen:
                seen = self._table.version
                yield router_pb2.WatchWorkersResponse(workers=self._workers(request.model))
            await asyncio.sleep(WATCH_EVERY_S)

    async def DrainWorker(
        self, request: router_pb2.DrainWorkerRequest, context: Context
    ) -> router_pb2.DrainWorkerResponse:
        """See router.proto."""
        row = self._drains.drain(request.worker_id)
        if row is None:
            known = ", ".join(row.worker_id for row in self._table) or "none"
            raise NotFound(f"no worker is called {request.worker_id!r}; there are: {known}", field="worker_id")
        return router_pb2.DrainWorkerResponse(in_flight=row.in_flight)

    async def ExplainPick(
        self, request: router_pb2.ExplainPickRequest, context: Context
    ) -> router_pb2.ExplainPickResponse:
        """See router.proto."""
        if request.ByteSize() > self._settings.max_prompt_bytes:
            raise InvalidArgument(
                "the chat is over the prompt limit; shorten it", reason="PROMPT_TOO_LONG", field="chat"
            )
        chat = chat_from(request.chat)
        return explained(self._dispatch.explain(chat), self._settings.policy)

    async def RegisterWorker(
        self, request: router_pb2.RegisterWorkerRequest, context: Context
    ) -> router_pb2.RegisterWorkerResponse:
        """See router.proto."""
        if not _WORKER_ID.match(request.worker_id):
            text = f"worker_id {request.worker_id[:80]!r} has to match {_WORKER_ID.pattern}"
            raise InvalidArgument(text, field="worker_id")
        self._check_address(request.address)
        self._fleet.announce(request.worker_id, request.address)
        return router_pb2.RegisterWorkerResponse(
            repeat_after=seconds_to_duration(self._settings.register_every_s),
            router_id=self._settings.router_id,
        )

    def _check_address(self, address: str) -> None:
        found = _ADDRESS.match(address)
        if not found or not 0 < int(found[2]) < 65536:
            raise InvalidArgument(f"address {address[:80]!r} is no host:port", field="address")
        host = found[1].strip("[]")
        allowed = self._settings.allowed_worker_hosts
        if "*" in allowed or host in allowed or _in_network(host, allowed):
            return
        text = f"workers on {host} may not announce themselves; add it to router.allowed_worker_hosts"
        raise PermissionDenied(text, reason="HOST_NOT_ALLOWED")


def _in_network(host: str, allowed: list[str]) -> bool:
    """Whether the host is an address within an allowed network such as 10.0.0.0/8."""
    try:
        address = ipaddress.ip_address(host)
        return any(address in ipaddress.ip_network(entry) for entry in allowed if "/" in entry)
    except ValueError:
        return False
