"""One document from bytes to chunks: tells its kind, reads it, cuts it. Runs in the parser's process."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from services.retriever.core.chunking import Tokenise, cut
from services.retriever.core.naming import last_part
from services.retriever.document import Chunk, Prepared
from services.retriever.failure import IngestFailure, too_large, unreadable
from services.retriever.parsing.kinds import DOCX, HTML, MARKDOWN, PDF, TEXT, media_type_of
from services.retriever.parsing.parsed import Parsed

Parse = Callable[[bytes, str], Parsed]

# A parser is imported with its first document: trafilatura alone would take a third of a second at each start.
_PARSERS = {PDF: "pdf", DOCX: "docx", HTML: "html", MARKDOWN: "markdown", TEXT: "text"}
# What the model reads of one text, its two special tokens left out.
_MODEL_TOKENS = 254
_MAX_TITLE_CHARS = 1024
_CONTEXT_SEPARATOR = " > "


@dataclass(frozen=True, slots=True)
class Limits:
    """`overlap_tokens` is at most half of `chunk_tokens`; `max_text_chars` bounds what one document may hold."""

    chunk_tokens: int
    overlap_tokens: int
    max_text_chars: int


def prepare(name: str, title: str, media_type: str, content: bytes, tokenise: Tokenise, limits: Limits) -> Prepared:
    """The document's chunks, at least one. `name` stands in messages and gives the title where nothing else does.

    Raises IngestFailure.
    """
    shown = last_part(name)
    if not content:
        raise unreadable("EMPTY_DOCUMENT", f"{shown} is empty; send a document with text")
    kind = media_type_of(name, media_type, content)
    if isinstance(kind, IngestFailure):
        raise kind
    parse: Parse = import_module(f"services.retriever.parsing.{_PARSERS[kind]}").parse
    parsed = parse(content, shown)
    if len(parsed.text) > limits.max_text_chars:
        raise too_large(
            "TOO_MUCH_TEXT",
            f"{shown} holds {len(parsed.text):,} characters, over the limit of {limits.max_text_chars:,}; split it",
        )
    title = title or parsed.title[:_MAX_TITLE_CHARS] or shown
    chunks = tuple(_chunks(parsed, title, tokenise, limits))
    if not chunks:
        why = "its pages may be pictures, which need text recognition (OCR) first" if kind == PDF else "add text to it"
        raise unreadable("NO_TEXT", f"{shown} holds no text; {why}")
    return Prepared(title, kind, chunks)


def _chunks(parsed: Parsed, title: str, tokenise: Tokenise, limits: Limits) -> list[Chunk]:
    cuts = cut(parsed.text, parsed.blocks, tokenise, limits.chunk_tokens, limits.overlap_tokens)
    budget = _MODEL_TOKENS - limits.chunk_tokens
    contexts: dict[tuple[str, ...], str] = {}
    found = []
    for number, piece in enumerate(cuts):
        if piece.heading_path not in contexts:
            contexts[piece.heading_path] = _context(title, piece.heading_path, tokenise, budget)
        text = parsed.text[piece.start : piece.end]
        context = contexts[piece.heading_path]
        found.append(Chunk(f"{number:05d}", text, context, piece.heading_path, piece.page, piece.start, piece.end))
    return found


def _context(title: str, heading_path: tuple[str, ...], tokenise: Tokenise, budget_tokens: int) -> str:
    """Title and headings, cut to what the model can read besides the chunk."""
    parts = [title, *(heading for heading in heading_path if heading != title)]
    context = _CONTEXT_SEPARATOR.join(part for part in parts if part)
    spans = tokenise(context)
    if len(spans) <= budget_tokens:
        return context
    return context[: spans[budget_tokens - 1][1]] if budget_tokens > 0 else ""
