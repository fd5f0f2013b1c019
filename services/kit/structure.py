"""What the form of an answer may be, for the router and the workers alike. It knows no engine's dialect of it."""

import json
from collections.abc import Sequence

from services.kit.errors import InvalidArgument

SCHEMA_BYTES_LIMIT = 64 * 1024
REGEX_BYTES_LIMIT = 8 * 1024
GRAMMAR_BYTES_LIMIT = 64 * 1024
CHOICES_LIMIT = 1024
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


def _check_choices(choices: Sequence[str]) -> None:
    field = f"{_FIELD}.choices.values"
    if not 1 <= len(choices) <= CHOICES_LIMIT:
        message = f"there are {len(choices):,} choices and have to be 1 to {CHOICES_LIMIT:,}"
        raise InvalidArgument(message, reason="OUT_OF_RANGE", field=field)
    for at, choice in enumerate(choices):
        if not choice:
            raise InvalidArgument(f"choice {at} is empty", reason="OUT_OF_RANGE", field=f"{field}[{at}]")
