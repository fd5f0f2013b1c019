"""How an answer is collected and shown."""

import io

import pytest
from rich.console import Console

from services.cli.answer import Answer, Printer
from services.cli.convert import Event, Finished, Source, Sources, Text
from services.kit.errors import Exhausted

GUIDE = Source(1, "Guide", "guide.md", 3, ("Setup", "Linux"), "…")
NOTES = Source(2, "Notes", "notes.md", 0, (), "…")
EVENTS: list[Event | None] = [
    None,
    Sources((GUIDE, NOTES)),
    Text("Run it [1]"),
    Text(", and not [9]."),
    Finished("stop", "worker-0", 1, 10, 5, 0.1, 0.2),
]


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
