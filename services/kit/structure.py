"""What the form of an answer may be, for the router and the workers alike. It knows no engine's dialect of it."""

import json
from collections.abc import Sequence
from typing import Any

from services.kit.errors import InvalidArgument

SCHEMA_BYTES_LIMIT = 64 * 1024
REGEX_BYTES_LIMIT = 8 * 1024
GRAMMAR_BYTES_LIMIT = 64 * 1024
CHOICES_LIMIT = 1024
# Of all choices together.
CHOICES_BYTES_LIMIT = 64 * 1024
# Objects and arrays within one another; an engine's compiler goes down them by recursion.
DEPTH_LIMIT = 64
_FIELD = "sampling.structure"
_TEXT_LIMITS = {"json_schema": SCHEMA_BYTES_LIMIT, "regex": REGEX_BYTES_LIMIT, "grammar": GRAMMAR_BYTES_LIMIT}


def no_structure() -> InvalidArgument:
    """The error for a structure that is there and says nothing."""
    text = f"{_FIELD} is empty; set one of json_schema, json_object, regex, choices and grammar, or leave it out"
    return InvalidArgument(text, reason="NO_FORM", field=_FIELD)


def check_structure(form: str, text: str, choices: Sequence[str]) -> None:
    """Raises InvalidArgument, which names the field, for what chat.proto's Structure does not allow.

    `form` is the name of the contract's field; `text` is a schema, an expression or a grammar.
    """
    if form == "choices":
        _check_choices(choices)
    elif form in _TEXT_LIMITS:
        _check_text(form, text)


def _check_text(form: str, text: str) -> None:
    field, size_bytes, limit_bytes = f"{_FIELD}.{form}", len(text.encode()), _TEXT_LIMITS[form]
    if not 1 <= size_bytes <= limit_bytes:
        message = f"{field} has {size_bytes:,} bytes and has to have 1 to {limit_bytes:,}"
        raise InvalidArgument(message, reason="OUT_OF_RANGE", field=field)
    if form == "json_schema":
        _check_schema(field, text)


def _check_schema(field: str, text: str) -> None:
    try:
        schema = json.loads(text)
    except RecursionError as error:
        raise InvalidArgument(f"{field} is nested too deep", reason="BAD_SCHEMA", field=field) from error
    except ValueError as error:
        raise InvalidArgument(f"{field} is no JSON: {error}", reason="BAD_SCHEMA", field=field) from error
    if not isinstance(schema, dict):
        message = f'{field} has to be a JSON object, such as {{"type": "object"}}'
        raise InvalidArgument(message, reason="BAD_SCHEMA", field=field)
    if not _is_within(schema, DEPTH_LIMIT):
        message = f"{field} is nested too deep: {DEPTH_LIMIT} objects and arrays within one another are the limit"
        raise InvalidArgument(message, reason="BAD_SCHEMA", field=field)
    try:
        json.dumps(schema, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        # Python reads more than JSON allows. An engine that is strict would fail on it, and look broken.
        message = f"{field} holds NaN, an infinite number or half of a character, which JSON has no form for"
        raise InvalidArgument(message, reason="BAD_SCHEMA", field=field) from error


def _is_within(value: Any, depth: int) -> bool:
    """Whether objects and arrays are at most so deep within one another."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_within(one, depth - 1) for one in inner)


def _check_choices(choices: Sequence[str]) -> None:
    field = f"{_FIELD}.choices.values"
    if not 1 <= len(choices) <= CHOICES_LIMIT:
        message = f"there are {len(choices):,} choices and have to be 1 to {CHOICES_LIMIT:,}"
        raise InvalidArgument(message, reason="OUT_OF_RANGE", field=field)
    size_bytes = sum(len(choice.encode()) for choice in choices)
    if size_bytes > CHOICES_BYTES_LIMIT:
        message = f"the choices have {size_bytes:,} bytes together and can have {CHOICES_BYTES_LIMIT:,}"
        raise InvalidArgument(message, reason="OUT_OF_RANGE", field=field)
    for at, choice in enumerate(choices):
        if not choice:
            raise InvalidArgument(f"choice {at} is empty", reason="OUT_OF_RANGE", field=f"{field}[{at}]")
