"""One document from bytes to chunks: tells its kind, reads it, cuts it. Runs in the parser's process."""

from collections.abc import Callable
from importlib import import_module

from services.retriever.core.chunking import Tokenise, cut
from services.retriever.core.naming import last_part
from services.retriever.document import Chunk, Prepared
from services.retriever.failure import IngestFailure, too_large, unreadable
from services.retriever.parsing.exchange import Question
from services.retriever.parsing.kinds import (
    CSV,
    DOCX,
    HTML,
    JSON,
    JSON_LINES,
    MARKDOWN,
    PDF,
    TEXT,
    TSV,
    charset_of,
    media_type_of,
)
from services.retriever.parsing.language import language_of
from services.retriever.parsing.licence import licence_of
from services.retriever.parsing.parsed import Parsed
from services.retriever.parsing.signature import signature_of

Parse = Callable[[bytes, str], Parsed]

# A parser is imported with its first document: trafilatura alone would take a third of a second at each start.
_PARSERS = {
    PDF: ("pdf", "parse"),
    DOCX: ("docx", "parse"),
    HTML: ("html", "parse"),
    MARKDOWN: ("markdown", "parse"),
    TEXT: ("text", "parse"),
    CSV: ("table", "parse"),
    TSV: ("table", "parse"),
    JSON: ("records", "parse"),
    JSON_LINES: ("records", "parse_lines"),
}
# What the model reads of one text, its two special tokens left out.
_MODEL_TOKENS = 254
_MAX_TITLE_CHARS = 1024
_CONTEXT_SEPARATOR = " > "


def prepare(question: Question, tokenise: Tokenise, max_text_chars: int) -> Prepared:
    """The document's chunks, at least one. Its name stands in messages and gives the title where nothing else does.

    Raises IngestFailure.
    """
    shown = last_part(question.name)
    if not question.content:
        raise unreadable("EMPTY_DOCUMENT", f"{shown} is empty; send a document with text")
    kind = media_type_of(question.name, question.media_type, question.content)
    if isinstance(kind, IngestFailure):
        raise kind
    module, function = _PARSERS[kind]
    parse: Parse = getattr(import_module(f"services.retriever.parsing.{module}"), function)
    parsed = parse(_as_utf8(question, kind), shown)
    if len(parsed.text) > max_text_chars:
        raise too_large(
            "TOO_MUCH_TEXT",
            f"{shown} holds {len(parsed.text):,} characters, over the limit of {max_text_chars:,}; split it",
        )
    title = question.title or parsed.title[:_MAX_TITLE_CHARS] or shown
    chunks = tuple(_chunks(parsed, title, tokenise, question))
    if not chunks:
        why = "its pages may be pictures, which need text recognition (OCR) first" if kind == PDF else "add text to it"
        raise unreadable("NO_TEXT", f"{shown} holds no text; {why}")
    text = parsed.text
    return Prepared(
        title=title,
        media_type=kind,
        chunks=chunks,
        language=question.language or language_of(text, parsed.language),
        licence=question.licence or licence_of(text, parsed.licence),
        signature=signature_of(text),
    )


def _as_utf8(question: Question, kind: str) -> bytes:
    """The content, recoded where its sender named another charset; a wrong one is left for the parser to see."""
    charset = charset_of(question.media_type)
    if not charset or kind in (PDF, DOCX):
        return question.content
    try:
        return question.content.decode(charset).encode()
    except (LookupError, UnicodeError):
        return question.content


def _chunks(parsed: Parsed, title: str, tokenise: Tokenise, question: Question) -> list[Chunk]:
    cuts = cut(parsed.text, parsed.blocks, tokenise, question.chunk_tokens, question.overlap_tokens)
    budget = _MODEL_TOKENS - question.chunk_tokens
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
