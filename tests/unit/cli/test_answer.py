"""How an answer is collected and shown."""

import io

import pytest
from rich.console import Console

from services.cli.answer import Answer, Printer
from services.cli.convert import Event, Finished, Grounding, Source, Sources, Text, Unsupported, to_event
from services.kit.errors import Exhausted
from weft.chat.v1 import chat_pb2
from weft.router.v1 import router_pb2

GUIDE = Source(1, "Guide", "guide.md", 3, ("Setup", "Linux"), "…")
NOTES = Source(2, "Notes", "notes.md", 0, (), "…")
EVENTS: list[Event | None] = [
    None,
    Sources((GUIDE, NOTES)),
    Text("Run it [1]"),
    Text(", and not [9]."),
    Finished("stop", "worker-0", 1, 10, 5, 0.1, 0.2),
]
DOUBTFUL = Finished("stop", "worker-0", 1, 10, 5, 0.1, 0.2, Grounding((9,), (Unsupported(10, 24, 0.1),), 0.5, 2))
NOTHING = Finished("nothing_found", "", 0, 0, 0, 0.0, 0.1, Grounding((), (), 1.0, 0))


def test_a_whole_answer() -> None:
    answer = Answer()
    for event in EVENTS:
        answer.take(event)
    found = answer.to_json()
    assert found["answer"] == "Run it [1], and not [9]."
    assert [(source["number"], source["cited"]) for source in found["sources"]] == [(1, True), (2, False)]
    assert found["finished"]["reason"] == "stop"


def test_a_failed_answer_raises_its_error() -> None:
    with pytest.raises(Exhausted, match="full"):
        Answer().take(Exhausted("every worker is full"))


def test_printing_keeps_brackets_and_lists_the_sources() -> None:
    screen = io.StringIO()
    out, answer = Console(file=screen, width=100), Answer()
    printer = Printer(out, Console(file=io.StringIO()))
    for event in EVENTS:
        answer.take(event)
        printer.event(event)
    printer.end(answer)
    assert screen.getvalue().splitlines() == [
        "Run it [1], and not [9].",
        "",
        "[1] Guide  guide.md, Setup › Linux, page 3",
        "[2] Notes  notes.md",
    ]


def test_what_has_no_support_is_named_between_answer_and_sources() -> None:
    screen = io.StringIO()
    answer, printer = Answer(), Printer(Console(file=screen, width=100), Console(file=io.StringIO()))
    for event in [*EVENTS[:-1], DOUBTFUL]:
        answer.take(event)
        printer.event(event)
    printer.end(answer)
    assert screen.getvalue().splitlines()[:5] == [
        "Run it [1], and not [9].",
        "",
        "[9] points at no source",
        "not in the sources: , and not [9].",
        "",
    ]
    assert answer.to_json()["finished"]["grounding"]["dangling"] == (9,)


def test_nothing_found_is_said_and_why_no_model_was_asked() -> None:
    screen, said = io.StringIO(), io.StringIO()
    answer, printer = Answer(), Printer(Console(file=screen, width=200), Console(file=said, width=200))
    for event in (Text("No document answers this."), NOTHING):
        answer.take(event)
        printer.event(event)
    printer.end(answer)
    assert screen.getvalue() == "No document answers this.\n"
    assert "nothing relevant was found, so no model was asked" in said.getvalue()


def test_the_routers_word_on_an_answers_support_is_read() -> None:
    grounding = router_pb2.Grounding(
        citations=[
            router_pb2.Citation(number=9, offset=20),
            router_pb2.Citation(number=1, offset=7, valid=True, document_id="guide"),
            router_pb2.Citation(number=9, offset=30),
        ],
        unsupported=[router_pb2.Unsupported(start_offset=10, end_offset=24, support=0.1)],
        supported_share=0.5,
        given_passages=2,
    )
    finished = router_pb2.Finished(reason=chat_pb2.FINISH_REASON_NOTHING_FOUND, grounding=grounding)
    event = to_event(router_pb2.StreamChatResponse(finished=finished))
    assert isinstance(event, Finished)
    assert event.reason == "nothing_found"
    assert event.grounding == Grounding((9,), (Unsupported(10, 24, 0.1),), 0.5, 2)
    plain = to_event(router_pb2.StreamChatResponse(finished=router_pb2.Finished(reason=chat_pb2.FINISH_REASON_STOP)))
    assert isinstance(plain, Finished)
    assert plain.grounding is None
