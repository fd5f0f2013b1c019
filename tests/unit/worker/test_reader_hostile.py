"""The reader on texts that are made to keep it busy: it reads on the event loop, so every other answer would wait."""

import time

import pytest

from services.worker.engines.reader.answer import answer
from services.worker.engines.reader.sentences import split
from services.worker.engines.reader.sources import find_inquiry
from services.worker.ports import Conversation, Message, Role

SIZE = 100_000
LIMIT_S = 2.0
"""A hundred times what they take here; one whose time grew with the square would take minutes."""


def read(passage: str, question: str = "what is the port?", number: str = "1") -> str:
    text = f'<sources>\n<source id="{number}" title="t">\n{passage}\n</source>\n</sources>'
    turns = (Message(Role.SYSTEM, text), Message(Role.USER, question))
    return answer(find_inquiry(Conversation(turns)))


@pytest.mark.parametrize(
    "passage",
    [
        pytest.param("The port is " + "." * SIZE + "x", id="full stops"),
        pytest.param("The port is " + "!?…" * (SIZE // 3) + " x", id="marks"),
        pytest.param("The port is 1." + ")" * SIZE + "x", id="brackets after a full stop"),
        pytest.param("# " + "#" * SIZE + "x", id="heading of marks"),
        pytest.param("# port" + " " * SIZE + "x", id="heading with blanks"),
        pytest.param("# " + "# " * (SIZE // 2) + "x", id="heading of marks and blanks"),
        pytest.param("port" + " " * SIZE + "x", id="term and blanks"),
        pytest.param("port" + "(" * SIZE + "x", id="term and brackets"),
        pytest.param("port" + " (" * (SIZE // 2) + "x", id="term, blanks and brackets"),
        pytest.param("port. " + "`(" * (SIZE // 2) + "x", id="quotes and brackets"),
        pytest.param("- " * (SIZE // 2) + "x", id="rule"),
        pytest.param("| " * (SIZE // 2) + "x", id="row"),
        pytest.param("port-\n" * (SIZE // 6), id="hyphens"),
        pytest.param('<source id="' * (SIZE // 12), id="sources in a source"),
    ],
)
@pytest.mark.parametrize("question", ["what is the port?", "how do I set the port?", "summarise"])
def test_it_takes_no_longer_than_the_text_is_long(passage: str, question: str) -> None:
    begun_s = time.process_time()
    read(passage, question)
    assert time.process_time() - begun_s < LIMIT_S


def test_a_number_of_thousands_of_digits_is_no_number() -> None:
    assert "[1]" in read("The port is 8080.", number="9" * 5_000)


@pytest.mark.parametrize("heading", ["# Port", "## Port ##", "   ### Port   ", "# Port #"])
def test_headings_are_told_without_their_marks(heading: str) -> None:
    assert [unit.heading for unit in split(f"{heading}\nIt is 8080.")] == ["Port"]
