"""Answers that are held to a form, where the worker's hello declares it."""

import json
import re

import pytest

from tests.engines.client import EngineLink
from tests.engines.engines import EngineCase
from weft.chat.v1 import chat_pb2

SCHEMA = {
    "type": "object",
    "properties": {"open": {"type": "boolean"}, "day": {"enum": ["monday", "friday"]}},
    "required": ["open", "day"],
    "additionalProperties": False,
}
CHOICES = ("Grüße aus Zürich 🚀", "東京へようこそ", "नमस्ते")
REGEX = r"[a-c]{3}-[0-9]{4}"
FORMS = {
    "schema": chat_pb2.Structure(json_schema=json.dumps(SCHEMA)),
    "regex": chat_pb2.Structure(regex=REGEX),
    "choices": chat_pb2.Structure(choices=chat_pb2.Choices(values=CHOICES)),
}


@pytest.fixture
def structured(link: EngineLink) -> EngineLink:
    if not link.hello.capabilities.structured_output:
        pytest.skip("its hello does not declare it")
    return link


def check(form: str, text: str) -> None:
    """The text has the form that was asked for."""
    if form == "schema":
        value = json.loads(text)
        assert set(value) == {"open", "day"}
        assert isinstance(value["open"], bool)
        assert value["day"] in ("monday", "friday")
    elif form == "regex":
        assert re.fullmatch(REGEX, text)
    else:
        assert text in CHOICES


async def test_not_declared_is_refused(link: EngineLink, case: EngineCase) -> None:
    if link.hello.capabilities.structured_output:
        pytest.skip("it has it")
    failure = await link.refused(case.questions[0], structure=FORMS["regex"])
    assert (failure.code, failure.reason, failure.field) == (3, "UNSUPPORTED", "sampling.structure")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "sampled"])
async def test_the_answer_has_the_form(structured: EngineLink, case: EngineCase, form: str, temperature: float) -> None:
    whole = await structured.answer(
        case.questions[8], max_tokens=200, temperature=temperature, seed=3, structure=FORMS[form]
    )
    check(form, whole.text)
    assert whole.reason == chat_pb2.FINISH_REASON_STOP
    if case.spell is not None:
        assert case.spell(whole.ids).decode() == whole.text


async def test_any_object(structured: EngineLink, case: EngineCase) -> None:
    """A model of no sense may not come to its end: then what there is, is the beginning of an object."""
    whole = await structured.answer(case.questions[8], max_tokens=60, structure=chat_pb2.Structure(json_object=True))
    assert whole.text.lstrip().startswith("{")
    if whole.reason == chat_pb2.FINISH_REASON_STOP:
        assert isinstance(json.loads(whole.text), dict)


async def test_characters_of_many_tokens_come_whole(structured: EngineLink, case: EngineCase) -> None:
    for choice in CHOICES:
        form = chat_pb2.Structure(choices=chat_pb2.Choices(values=[choice]))
        whole = await structured.answer(case.questions[9], max_tokens=200, structure=form)
        assert whole.text == choice
        assert all(choice.startswith(shown) for shown in whole.shown.values())


@pytest.mark.parametrize("form", FORMS)
async def test_resumed(structured: EngineLink, case: EngineCase, form: str) -> None:
    can = structured.hello.capabilities
    if not can.replays_structure:
        pytest.skip("its hello says that structures are not replayed, so no router resumes such an answer here")
    how = {"max_tokens": 200, "structure": FORMS[form]}
    whole = await structured.answer(case.questions[8], **how)
    for count, shown in whole.shown.items():
        if count < len(whole.ids):
            rest = await structured.answer(case.questions[8], resume=whole.ids[:count], **how)
            assert shown + rest.text == whole.text, f"after {count} tokens"
            check(form, shown + rest.text)


@pytest.mark.parametrize(
    "structure",
    [
        pytest.param(chat_pb2.Structure(), id="none"),
        pytest.param(chat_pb2.Structure(json_schema="{not json"), id="no-json"),
        pytest.param(chat_pb2.Structure(json_schema='{"type": "no-such-type"}'), id="no-schema"),
        pytest.param(chat_pb2.Structure(regex="(["), id="no-regex"),
        pytest.param(chat_pb2.Structure(choices=chat_pb2.Choices()), id="no-choice"),
        pytest.param(chat_pb2.Structure(grammar="root ::= ("), id="no-grammar"),
        pytest.param(chat_pb2.Structure(json_schema=json.dumps({"title": "x" * 70_000})), id="too-big"),
    ],
)
async def test_wrong_structures(structured: EngineLink, case: EngineCase, structure: chat_pb2.Structure) -> None:
    failure = await structured.refused(case.questions[8], max_tokens=50, structure=structure)
    assert failure.code == 3
    assert failure.field.startswith("sampling.structure")
    assert failure.message.strip()
    assert len((await structured.answer(case.questions[0], max_tokens=3)).ids) == 3
