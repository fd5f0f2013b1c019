"""A few parser processes, used in turn and replaced when a document breaks one. Starts them when they are needed."""

import asyncio

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from services.kit.settings.retriever import RetrieverSettings
from services.retriever.child import Child, ChildGone, ChildSlow
from services.retriever.core.naming import last_part
from services.retriever.document import Document, Prepared
from services.retriever.failure import FailureCode, IngestFailure, too_large
from services.retriever.parsing.exchange import Question, decode_answer, encode_question

_MODULE = "services.retriever.parsing.child"
_START_TIMEOUT_S = 30.0
_START_ATTEMPTS = 3
_STOP_GRACE_S = 1.0


class ParserPool:
    """Prepares documents; at most `parse_workers` at once, others wait. `close` ends its processes."""

    def __init__(self, settings: RetrieverSettings) -> None:
        self._settings = settings
        self._arguments = [
            str(settings.parse_memory_bytes),
            str(settings.max_text_chars),
        ]
        self._slots: asyncio.LifoQueue[Child | None] = asyncio.LifoQueue(settings.parse_workers)
        for _ in range(settings.parse_workers):
            self._slots.put_nowait(None)
        self._log = structlog.get_logger("parsing")

    def __repr__(self) -> str:
        return f"ParserPool({self._slots.qsize()} of {self._settings.parse_workers} free)"

    async def prepare(
        self, document: Document, chunk_tokens: int | None = None, overlap_tokens: int | None = None
    ) -> Prepared:
        """The document, read and cut; without numbers of tokens, as the settings say.

        Raises IngestFailure, also when it kills its parser or takes too long.
        """
        name = document.source or document.document_id
        question = Question(
            name,
            document.title,
            document.media_type,
            document.language,
            document.licence,
            self._settings.chunk_tokens if chunk_tokens is None else chunk_tokens,
            self._settings.chunk_overlap_tokens if overlap_tokens is None else overlap_tokens,
            document.content,
        )
        answer = await self._ask(encode_question(question), last_part(name))
        if isinstance(answer, IngestFailure):
            raise answer
        return answer

    async def warm(self) -> None:
        """Starts one process ahead of the first document."""
        child = await self._slots.get()
        try:
            child = child or await self._start()
        finally:
            self._slots.put_nowait(child)

    async def close(self) -> None:
        """Ends every process; call it when no `prepare` is under way."""
        for _ in range(self._settings.parse_workers):
            child = await self._slots.get()
            if child:
                await child.stop(_STOP_GRACE_S)

    async def _ask(self, question: bytes, name: str) -> Prepared | IngestFailure:
        child = await self._slots.get()
        kept: Child | None = None
        try:
            child = child if child and child.running else await self._start()
            answer = decode_answer(await child.ask(question, self._settings.parse_timeout_s))
            # A parser that hit a limit says so and ends: its memory is not fit for another document.
            kept = child if isinstance(answer, Prepared) or answer.code == FailureCode.INVALID_ARGUMENT else None
            return answer
        except ChildSlow:
            self._log.warning("parser too slow", child=repr(child))
            limit_s = self._settings.parse_timeout_s
            return too_large("PARSE_TIMEOUT", f"{name} takes over {limit_s:g} s to read; split it or simplify it")
        except (ChildGone, ValueError, KeyError, TypeError, RecursionError):
            self._log.warning("parser ended", child=repr(child))
            return IngestFailure(
                FailureCode.INTERNAL,
                "PARSER_CRASHED",
                f"{name} made the parser end, perhaps for want of memory; save it anew, or as plain text",
            )
        finally:
            try:
                if child is not None and kept is None:
                    await asyncio.shield(child.kill())
            finally:
                self._slots.put_nowait(kept)

    async def _start(self) -> Child:
        """A new process; one that ends before it is ready is no fault of the document, and another is tried."""
        attempts = AsyncRetrying(
            stop=stop_after_attempt(_START_ATTEMPTS), retry=retry_if_exception_type(ChildGone), reraise=True
        )
        return await attempts(Child.start, _MODULE, self._arguments, _START_TIMEOUT_S)
