"""What an answer's form may be, and what is refused before any engine sees it."""

import json

import pytest

from services.kit.errors import InvalidArgument
from services.kit.structure import CHOICES_BYTES_LIMIT, DEPTH_LIMIT, check_structure


def _nested(depth: int) -> str:
    """A schema whose objects are `depth` within one another."""
    return '{"not":' * (depth - 1) + "{}" + "}" * (depth - 1)


REFUSED = {
    "no json": "{",
    "no object": "[]",
    "not a number": '{"maximum": NaN}',
    "infinite": '{"maximum": -Infinity}',
    "a number without end": '{"maximum": 1e999}',
    "half of a character": '{"const": "\\ud800"}',
    "half of a character in a key": '{"properties": {"\\ud800": {}}}',
    "one level too deep": _nested(DEPTH_LIMIT + 1),
    "arrays too deep": '{"enum":' + "[" * DEPTH_LIMIT + "]" * DEPTH_LIMIT + "}",
    "deeper than any parser goes": _nested(6_000),
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_a_schema_that_would_break_a_strict_reader_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_structure("json_schema", text, ())
    assert (caught.value.reason, caught.value.field) == ("BAD_SCHEMA", "sampling.structure.json_schema")


def test_the_deepest_schema_passes() -> None:
    check_structure("json_schema", _nested(DEPTH_LIMIT), ())


def test_a_whole_character_passes() -> None:
    check_structure("json_schema", json.dumps({"const": "\U0001f98a"}), ())


def test_choices_are_bounded_together() -> None:
    check_structure("choices", "", ["x" * (CHOICES_BYTES_LIMIT // 4)] * 4)
    with pytest.raises(InvalidArgument, match="65,540 bytes together"):
        check_structure("choices", "", ["x" * (CHOICES_BYTES_LIMIT // 4 + 1)] * 4)
