"""The reader: what it quotes from realistic documents, what it says when it cannot, and that its stream resumes."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pypdfium2
import pytest

from services.kit.errors import InvalidArgument
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.reader.answer import CLOSEST, NO_ANSWER, NO_PASSAGES, NO_SOURCES, answer, pieces
from services.worker.engines.reader.engine import ReaderEngine, open_reader
from services.worker.engines.reader.sentences import split, split_sentences
from services.worker.engines.reader.sources import Inquiry, Source, find_inquiry
from services.worker.ports import Conversation, Message, Prompt, Reason, Rendered, Role, Sampling, Tokenised, Work
from tests.unit.worker.collector import Collector
from tests.unit.worker.resume import check_every_split, run

GUIDE = Source(
    1,
    "Install guide",
    "Harbour > Installation",
    """# Installation

Harbour needs Python 3.11 or newer and 2 GB of free disk space. It runs on Linux and macOS.

To install Harbour, run:

```
pip install harbour
harbour init
```

The service listens on port 7070 by default. Change it with `--port`.""",
)
DESIGN = Source(
    2,
    "Architecture",
    "Harbour > Parts",
    """## Parts

Harbour is a queue server that keeps messages on disk until they are acknowledged. It consists of three services:

- `broker` accepts messages and assigns them to a partition.
- `keeper` writes partitions to disk, with a checksum for each record. It never rewrites a record.
- `sweeper` deletes acknowledged messages after the retention time.

## Retries

A message that is not acknowledged within 30 seconds is delivered again. Dr. Smith et al. call this at-least-once \
delivery. Messages are retried at most five times because endless retries hide broken consumers.

| state | what it means | next |
|---|---|---|
| pending | waits for a consumer | leased |
| leased | a consumer works on it | done or pending |""",
)
BOTH = (GUIDE, DESIGN)


@pytest.mark.parametrize(
    ("question", "has", "lacks"),
    [
        pytest.param("What is Harbour?", ["queue server that keeps messages on disk", "[2]"], ["port"], id="what-is"),
        pytest.param("How do I install Harbour?", ["pip install harbour", "```", "[1]"], ["sweeper"], id="how-to-code"),
        pytest.param("Which port does it listen on?", ["port 7070", "[1]"], ["broker"], id="number"),
        pytest.param(
            "Why are messages retried only five times?", ["because endless retries hide", "[2]"], ["7070"], id="why"
        ),
        pytest.param("What services does it consist of?", ["`broker`", "`keeper`", "`sweeper`"], ["pip"], id="list"),
        pytest.param("What does the sweeper do?", ["deletes acknowledged messages", "[2]"], ["pip"], id="one-item"),
        pytest.param("What does leased mean?", ["leased – what it means: a consumer works on it"], ["pip"], id="row"),
        pytest.param("How long until a message is delivered again?", ["30 seconds", "[2]"], ["7070"], id="how-long"),
        pytest.param("Which Python version is required?", ["Python 3.11", "[1]"], ["broker"], id="synonym"),
        pytest.param("Summarise these documents", ["[1]", "[2]"], [NO_ANSWER], id="summary"),
    ],
)
def test_answers(question: str, has: list[str], lacks: list[str]) -> None:
    text = answer(Inquiry(question, BOTH))
    assert all(part in text for part in has), text
    assert not any(part in text for part in lacks), text


@pytest.mark.parametrize(
    ("inquiry", "says"),
    [
        pytest.param(Inquiry("Who won the football final?", BOTH), NO_ANSWER, id="nothing-fits"),
        pytest.param(Inquiry("Hello, who are you?", None), NO_SOURCES, id="free-chat"),
        pytest.param(Inquiry("What is Harbour?", ()), NO_PASSAGES, id="nothing-found"),
        pytest.param(Inquiry("Is the broker licensed under Apache terms and patents?", BOTH), CLOSEST, id="near-miss"),
    ],
)
def test_it_says_when_it_cannot_answer(inquiry: Inquiry, says: str) -> None:
    assert answer(inquiry).startswith(says)


def test_free_chat_learns_how_to_get_a_model() -> None:
    assert "--engine llamacpp --model FILE.gguf" in NO_SOURCES


def test_citations_carry_the_sources_own_numbers() -> None:
    other = Source(7, "Notes", "", "The lighthouse was built in 1902 by fishermen.")
    text = answer(Inquiry("When was the lighthouse built?", (GUIDE, other)))
    assert text == "The lighthouse was built in 1902 by fishermen [7]."


def test_a_leaning_sentence_brings_the_one_before_it() -> None:
    source = Source(1, "", "", "The keeper writes records. It also computes a xyzzy checksum.")
    assert answer(Inquiry("What computes the xyzzy checksum?", (source,))).startswith("The keeper writes records. It")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        pytest.param("One is here. Two is there!", ["One is here.", "Two is there!"], id="plain"),
        pytest.param(
            "See e.g. Fig. 3 of J. Smith. It works.", ["See e.g. Fig. 3 of J. Smith.", "It works."], id="abbreviations"
        ),
        pytest.param("Version 3.11 is out. 2 GB suffice.", ["Version 3.11 is out.", "2 GB suffice."], id="numbers"),
        pytest.param("He said “stop.” Then left.", ["He said “stop.”", "Then left."], id="quotes"),
        pytest.param("東京は首都です。人口は多い。", ["東京は首都です。", "人口は多い。"], id="japanese"),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


def test_hyphenated_lines_of_print_are_joined_and_titles_stay_apart() -> None:
    units = split("The Great Storm\nIt began at night, and the waves were extra-\nordinary to all who saw them.")
    assert [unit.text for unit in units] == [
        "The Great Storm",
        "It began at night, and the waves were extraordinary to all who saw them.",
    ]


def test_the_contracts_format_of_sources() -> None:
    system = (
        'Answer from these.\n<sources>\n<source id="1" title="A &quot;b&quot;" section="S > T">\n'
        "first\nlines\n</source>\n"
        '<source id="2" title="C" section="">\n‹source\n</source>\n</sources>'
    )
    found = find_inquiry(
        Conversation(
            (
                Message(Role.SYSTEM, "old <sources></sources>"),
                Message(Role.USER, "before"),
                Message(Role.SYSTEM, system),
                Message(Role.USER, "the question"),
            )
        )
    )
    assert found.question == "the question"
    assert found.sources is not None
    assert found.sources[0] == Source(1, 'A "b"', "S > T", "first\nlines")
    assert found.sources[1] == Source(2, "C", "", "<source")


def conversation(question: str = "How do I install Harbour?", *sources: Source) -> Conversation:
    listed = "\n".join(
        f'<source id="{one.number}" title="{one.title}" section="{one.section}">\n{one.text}\n</source>'
        for one in sources or BOTH
    )
    return Conversation(
        (Message(Role.SYSTEM, f"<sources>\n{listed}\n</sources>"), Message(Role.USER, question)),
    )


@pytest.mark.parametrize(
    "system",
    ["<sources>" * 20_000, "<sources>" + "<source>" * 20_000 + "</sources>", "<sources>" + "J. " * 30_000],
    ids=["lists", "sources", "initials"],
)
@pytest.mark.timeout(10)
def test_hostile_prompts_take_no_time(system: str) -> None:
    text = f'{system}<sources><source id="1">\n{"J. " * 30_000}\n</source></sources>'
    question = "what is" + " " * 50_000 + "a?" + " word" * 5_000
    assert answer(find_inquiry(Conversation((Message(Role.SYSTEM, text), Message(Role.USER, question)))))


def test_pieces_join_to_the_text() -> None:
    text = "  two  words\n\n```\ncode\n```\n"
    assert "".join(pieces(text)) == text


Opener = Callable[..., AbstractAsyncContextManager[tuple[ReaderEngine, Collector]]]


@pytest.fixture
def reader() -> Opener:
    @asynccontextmanager
    async def opener(**settings: int) -> AsyncIterator[tuple[ReaderEngine, Collector]]:
        sink = Collector()
        async with open_reader(WorkerSettings(**settings), sink) as engine:  # type: ignore[arg-type]
            yield engine, sink

    return opener


@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(max_tokens=5), Sampling(stop=("harbour init",)), Sampling(stop=("l h", "never"))],
    ids=["whole", "max-tokens", "stop-over-words", "stop-within"],
)
async def test_resume_at_every_split(reader: Opener, sampling: Sampling) -> None:
    async with reader() as (engine, sink):
        whole = await check_every_split(engine, sink, conversation(), sampling)
    expected = Reason.LENGTH if sampling.max_tokens else Reason.STOP
    assert whole.finish.reason is expected
    assert not any(stop in whole.text for stop in sampling.stop)


async def test_text_of_several_bytes_a_character_resumes(reader: Opener) -> None:
    source = Source(1, "旅行", "", "The harbour of 東京 serves café crème 🙂 to naïve sailors.")
    async with reader() as (engine, sink):
        whole = await check_every_split(engine, sink, conversation("What does the harbour serve?", source), Sampling())
    assert "東京 serves café crème 🙂" in whole.text


@pytest.mark.parametrize(
    ("prompt", "resume", "field"),
    [
        pytest.param(Tokenised((1, 2)), (), "prompt.token_ids", id="token-ids"),
        pytest.param(Rendered("hello"), (1, 2), "resume_token_ids", id="foreign-tokens"),
        pytest.param(Rendered("hello " * 50), (), "prompt", id="too-long"),
    ],
)
async def test_refusals(reader: Opener, prompt: Prompt, resume: tuple[int, ...], field: str) -> None:
    async with reader(context_tokens=40) as (engine, _):
        with pytest.raises(InvalidArgument) as caught:
            engine.submit(Work(1, prompt, Sampling(), resume))
    assert caught.value.field == field


async def test_places_are_bounded_and_cancel_frees_one(reader: Opener) -> None:
    async with reader(max_running=1) as (engine, sink):
        for key in (1, 2):
            engine.submit(Work(key, Rendered("hello"), Sampling()))
        assert (engine.load().running, engine.load().waiting) == (1, 1)
        await sink.tokens(1)
        engine.cancel(1)
        assert sink.of[1].finish.reason is Reason.CANCELLED
        (second,) = await sink.ended(2)
        assert second.text == NO_SOURCES
        assert (await run(engine, sink, Rendered("hi"), Sampling())).text == NO_SOURCES


def test_it_reads_real_pdfs(data_dir: Path) -> None:
    """Text as PDFs give it: broken lines, no headings, titles in the middle."""
    found = next((data_dir / "documents" / "pdf").glob("*crazyones*.pdf"))
    with pypdfium2.PdfDocument(found) as document:
        text = document[0].get_textpage().get_text_bounded().replace("\r\n", "\n")
    said = answer(Inquiry("Who are the crazy ones?", (Source(1, "crazyones", "page 1", text),)))
    assert "the ones who do [1]." in said
    assert answer(Inquiry("What is the boiling point of mercury?", (Source(1, "", "", text),))).startswith(NO_ANSWER)
