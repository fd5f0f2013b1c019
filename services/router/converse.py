"""A conversation on one bidirectional stream: keeps the turns, answers one at a time, cancels the one under way."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import grpc.aio

from services.kit.clock import Now
from services.kit.errors import Exhausted, InvalidArgument, WeftError
from services.kit.settings.router import RouterSettings
from services.router.answer import Answer
from services.router.convert import chat_from, check_chat
from services.router.core.chat import Chat, Message, Role
from services.router.dispatch import Dispatch
from services.router.events import Event, Failed
from services.router.request_id import new_request_id
from services.router.wire import event_message
from weft.chat.v1.chat_pb2 import TokenLogprob
from weft.router.v1 import router_pb2

TURN_QUEUE_LIMIT = 8


class _TurnStream:
    """The client as one turn sees it: events carry the turn's number, and the text is kept for the history."""

    pushes = False

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any], turn: int) -> None:
        self._write = context.write
        self._turn = turn
        self.text: list[str] = []

    def push(self, text: str, index: int, ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> bool:
        """See answer.Client."""
        return False

    async def tokens(self, text: str, index: int, ids: list[int], logprobs: list[TokenLogprob]) -> None:
        """See answer.Client."""
        self.text.append(text)
        tokens = router_pb2.Tokens(text=text, index=index, token_ids=ids, logprobs=logprobs)
        event = router_pb2.StreamChatResponse(tokens=tokens)
        await self._write(router_pb2.ConverseResponse(turn=self._turn, event=event))

    async def event(self, event: Event) -> None:
        """See answer.Client."""
        await self._write(router_pb2.ConverseResponse(turn=self._turn, event=event_message(event)))


class Conversation:
    """One Converse call. `run` returns when the client has half-closed and every turn is answered."""

    def __init__(
        self,
        dispatch: Dispatch,
        settings: RouterSettings,
        now: Now,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        self._dispatch = dispatch
        self._settings = settings
        self._now = now
        self._context = context
        self._turns: asyncio.Queue[str | None] = asyncio.Queue(TURN_QUEUE_LIMIT + 1)
        self._under_way: Answer | None = None

    def stop(self) -> None:
        """The router stops: turns that are asked are still answered, and then the conversation ends."""
        if not self._turns.full():
            self._turns.put_nowait(None)

    async def run(self) -> None:
        """See router.proto."""
        first = await self._context.read()
        if first is grpc.aio.EOF or first.WhichOneof("kind") != "open":
            raise InvalidArgument("the first message of a conversation has to hold `open`", field="open")
        chat = chat_from(first.open.settings)
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read())
                await self._answer_turns(chat)
                reader.cancel()
        except* WeftError as failed:
            raise failed.exceptions[0] from None

    async def _read(self) -> None:
        """Takes the client's messages; a cancel is acted on at once, turns wait for their place."""
        while (message := await self._context.read()) is not grpc.aio.EOF:
            match message.WhichOneof("kind"):
                case "turn":
                    if self._turns.qsize() >= TURN_QUEUE_LIMIT:
                        text = f"{TURN_QUEUE_LIMIT} turns wait already; wait for an answer before the next"
                        raise Exhausted(text, reason="TOO_MANY_TURNS")
                    if len(message.turn.content) > self._settings.max_prompt_bytes:
                        text = f"the turn is longer than the {self._settings.max_prompt_bytes:,} bytes allowed"
                        raise InvalidArgument(text, reason="PROMPT_TOO_LONG", field="turn.content")
                    self._turns.put_nowait(message.turn.content)
                case "cancel":
                    if self._under_way is not None:
                        self._under_way.cancel()
                case _:
                    raise InvalidArgument("after `open` each message has to hold `turn` or `cancel`", field="kind")
        self._turns.put_nowait(None)

    async def _answer_turns(self, chat: Chat) -> None:
        number = 0
        while (content := await self._turns.get()) is not None:
            number += 1
            chat = await self._answer(chat, content, number)

    async def _answer(self, chat: Chat, content: str, number: int) -> Chat:
        """The conversation with this turn and its answer; without either where the turn was refused or failed."""
        client = _TurnStream(self._context, number)
        asked = replace(chat, messages=(*chat.messages, Message(Role.USER, content)))
        answer = self._under_way = Answer(new_request_id(), client, self._now)
        left_s = chat.timeout_s if chat.timeout_s is not None else self._settings.default_timeout_s
        try:
            check_chat(asked, self._settings)
            ended = await self._dispatch.run(asked, answer, self._now() + left_s)
        except WeftError as error:
            await client.event(Failed(error))
            return chat
        finally:
            self._under_way = None
        if ended is None:
            return chat
        return replace(asked, messages=(*asked.messages, Message(Role.ASSISTANT, "".join(client.text))))
