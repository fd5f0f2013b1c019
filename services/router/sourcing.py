"""Retrieval's part in an answer: finds passages, writes them into the prompt, and checks what became of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.kit.clock import Now
from services.kit.errors import DeadlineExceeded, InvalidArgument
from services.kit.settings.router import RouterSettings
from services.router.answer import Answer
from services.router.core.chat import Chat, Retrieval
from services.router.core.grounding import Given, Grounding, ground
from services.router.core.prompt import LEAST_BYTES, Room, Source, grounded, question_of, written
from services.router.events import Stage
from services.router.placing import Placing
from services.router.ports import Searcher
from services.router.stuck import unless_stuck
from weft.retriever.v1.retriever_pb2 import Passage

LONG_CHARACTERS = 8_000
"""Answers longer than this are checked in a thread: other answers' tokens do not wait for it."""


@dataclass(frozen=True, slots=True)
class Sourced:
    """A chat whose prompt holds its sources, and what they are, in order."""

    chat: Chat
    given: tuple[Given, ...]


class Sourcing:
    """One object for the whole router; it keeps nothing between answers."""

    def __init__(self, searcher: Searcher, placing: Placing, settings: RouterSettings, now: Now) -> None:
        self._searcher = searcher
        self._placing = placing
        self._settings = settings
        self._now = now

    async def find(self, chat: Chat, retrieval: Retrieval, answer: Answer, deadline_s: float) -> Sequence[Passage]:
        """Passages for the chat's question, best first; the client hears `progress` while it takes long.

        None for an answer that is cancelled meanwhile. Raises the search's error, or DeadlineExceeded.
        """
        search = asyncio.ensure_future(self._searcher.search(question_of(chat), retrieval, deadline_s - self._now()))
        try:
            while not search.done():
                timeout_s = min(self._settings.progress_every_s, max(0.0, deadline_s - self._now()))
                either: set[asyncio.Future[Any]] = {search, answer.gone}
                await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
                if answer.cancelled:
                    return ()
                if deadline_s <= self._now():
                    raise DeadlineExceeded("the deadline passed during retrieval", reason="DEADLINE")
                if not search.done():
                    async with unless_stuck():
                        await answer.progress(Stage.RETRIEVING)
            passages = search.result()
        finally:
            search.cancel()
            await asyncio.wait([search])
            if not search.cancelled():
                search.exception()
        answer.found(passages)
        return passages

    def prompt(self, chat: Chat, retrieval: Retrieval, passages: Sequence[Passage]) -> Sourced:
        """The chat with as many of the passages as there is room for, the worst left out.

        Raises InvalidArgument where there is room for none.
        """
        own, room = self._settings.retrieval, self._placing.room(chat)
        budget_bytes = room.source_bytes(retrieval.max_source_tokens or own.source_tokens)
        sources = [Source(p.title or p.source, " > ".join(p.heading_path), p.text) for p in passages]
        blocks = written(sources, self._settings.context_bytes_per_passage, budget_bytes)
        if passages and not blocks:
            raise _no_room(room, retrieval.max_source_tokens)
        # What the model was shown is what counts: a passage that was cut supports nothing with its rest.
        given = tuple(
            Given(passage.document_id, passage.chunk_id, block.words)
            for passage, block in zip(passages, blocks, strict=False)
        )
        return Sourced(grounded(chat, blocks), given)

    async def check(self, text: str, given: Sequence[Given]) -> Grounding:
        """How well an answer's text rests on what it was given."""
        threshold = self._settings.retrieval.support
        if len(text) > LONG_CHARACTERS:
            return await asyncio.to_thread(ground, text, given, threshold)
        return ground(text, given, threshold)


def _no_room(room: Room, max_source_tokens: int) -> InvalidArgument:
    if room.source_bytes(1 << 31) >= LEAST_BYTES:
        text = f"max_source_tokens is {max_source_tokens}, too few for any source; ask for more"
        return InvalidArgument(text, reason="NO_ROOM_FOR_SOURCES", field="retrieval.max_source_tokens")
    text = (
        f"the conversation and its answer take about {room.taken_tokens:,} of the model's {room.context_tokens:,} "
        "tokens, which leaves none for sources; shorten it, or lower max_tokens"
    )
    return InvalidArgument(text, reason="NO_ROOM_FOR_SOURCES", field="messages")
