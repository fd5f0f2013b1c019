"""Structured output in llama.cpp's words, and the check that it understands them: by itself it goes on without."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from services.kit.errors import InvalidArgument
from services.worker.ports import Form, Structure

# Structures that are known to be understood; the oldest is forgotten first.
KNOWN_LIMIT = 256

Post = Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]]


def structure_fields(structure: Structure) -> dict[str, Any]:
    """Schemas as they are, everything else as a grammar. Raises InvalidArgument where a schema is no JSON."""
    if structure.form is Form.JSON_SCHEMA:
        return {"json_schema": to_schema(structure)}
    if structure.form is Form.JSON_OBJECT:
        return {"json_schema": {"type": "object"}}
    if structure.form is Form.REGEX:
        return {"grammar": regex_grammar(structure.text)}
    return {"grammar": choices_grammar(structure.choices) if structure.form is Form.CHOICES else structure.text}


def to_schema(structure: Structure) -> Any:
    """The schema as JSON. Raises InvalidArgument where it is none."""
    try:
        return json.loads(structure.text)
    except ValueError as error:
        message = f"the schema is no JSON: {error}"
        raise InvalidArgument(message, reason="BAD_STRUCTURE", field="sampling.structure.json_schema") from error


def choices_grammar(choices: Iterable[str]) -> str:
    """A GBNF grammar of exactly these strings."""
    return "root ::= " + " | ".join(f'"{_escaped(choice)}"' for choice in choices)


def _escaped(text: str) -> str:
    """As it stands in a GBNF literal."""
    known = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "".join(known.get(char) or (char if char >= " " else f"\\x{ord(char):02x}") for char in text)


def regex_grammar(regex: str) -> str:
    """A grammar for the llguidance library, which builds of llama.cpp have that know regular expressions."""
    escaped, at = "", 0
    while at < len(regex):
        # What is escaped already stays so; a slash would end the expression.
        step = 2 if regex[at] == "\\" and at + 1 < len(regex) else 1
        part = regex[at : at + step]
        escaped += {"/": "\\/", "\n": "\\n"}.get(part, part)
        at += step
    return f"%llguidance {{}}\nstart: /{escaped}/"


class StructureCheck:
    """Asks llama.cpp for one token under a structure, with a control token made certain that no structure lets through.

    llama.cpp generates freely where its grammar library refuses a schema or an expression, and says so in its log
    alone; then that token comes. `trap` None leaves the check out, for models without such a token.
    """

    def __init__(self, post: Post, trap: int | None) -> None:
        self._post = post
        self._trap = trap
        self._known: dict[Structure, None] = {}

    def __repr__(self) -> str:
        return f"StructureCheck(trap={self._trap} known={len(self._known)})"

    async def check(self, structure: Structure) -> None:
        """Raises InvalidArgument where llama.cpp would not hold an answer to it."""
        if self._trap is None or structure in self._known:
            return
        body = {
            "prompt": [self._trap],
            "n_predict": 1,
            "temperature": 0.0,
            "cache_prompt": False,
            "logit_bias": [[self._trap, 1000.0]],
            "return_tokens": True,
            "response_fields": ["tokens"],
            **structure_fields(structure),
        }
        answer = await self._post("/completion", body)
        if answer.get("tokens") == [self._trap]:
            name = structure.form.value
            message = f"llama.cpp does not understand this {name}: it is wrong, or uses what llama.cpp does not know"
            raise InvalidArgument(message, reason="BAD_STRUCTURE", field=f"sampling.structure.{name}")
        if len(self._known) >= KNOWN_LIMIT:
            self._known.pop(next(iter(self._known)))
        self._known[structure] = None
