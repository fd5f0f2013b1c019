"""Answers against their passages: where citations point, and which sentences have support."""

import time

import pytest

from services.router.core.grounding import ANSWER_LIMIT, FOUND_LIMIT, Given, ground

GIVEN = (
    Given("guide", "c1", "Guide\nSetup > Linux\nThe router listens on port 50051 and waits for 1,000 workers."),
    Given("notes", "c2", "Notes\n\nInstalled GPU drivers are deleted by the uninstaller. 路由器监听端口50051。"),
    Given("more", "c3", "Mehr\n\nDer Router wartet höchstens dreißig Sekunden. Маршрутизатор ждёт работников."),
)


def doubts(answer: str, threshold: float = 0.5) -> list[str]:
    return [answer[one.start : one.end] for one in ground(answer, GIVEN, threshold).unsupported]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param("It listens on port 50051 [1].", [(1, 25, "guide")], id="before the stop"),
        pytest.param("It listens. [1] It waits. [2]", [(1, 12, "guide"), (2, 26, "notes")], id="after the stop"),
        pytest.param("It listens [1][2].", [(1, 11, "guide"), (2, 14, "notes")], id="two in a row"),
        pytest.param("It listens [1, 3].", [(1, 11, "guide"), (3, 11, "more")], id="two in one"),
        pytest.param("It listens [4] [0].", [(4, 11, ""), (0, 15, "")], id="no such passage"),
        pytest.param("端口【2】。", [(2, 2, "notes")], id="wide brackets"),
        pytest.param("See [1](http://a.b) and `x[2]`.", [], id="a link and code are none"),
        pytest.param("```\nx[1]\n```\n[3]", [(3, 13, "more")], id="a block of code is cited below it"),
        pytest.param("In [2024] and [1234].", [], id="years are none"),
        pytest.param("😀 It listens [1].", [(1, 13, "guide")], id="offsets are in characters"),
    ],
)
def test_citations_point_at_passages(answer: str, expected: list[tuple[int, int, str]]) -> None:
    found = ground(answer, GIVEN, 0.5).citations
    assert [(one.number, one.offset, one.document_id) for one in found] == expected
    assert [one.valid for one in found] == [bool(document) for _, _, document in expected]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param("The router listens on port 50051 [1].", [], id="as it stands"),
        pytest.param("Installing GPU drivers needs the uninstaller [2].", [], id="other endings"),
        pytest.param("The router waits for 1000 workers [1].", [], id="a number written otherwise"),
        pytest.param(
            "The router waits for 2,000 workers [1].", ["The router waits for 2,000 workers [1]."], id="number"
        ),
        pytest.param(
            "The router waits for workers [2].", ["The router waits for workers [2]."], id="another passage's"
        ),
        pytest.param("The router waits for workers.", [], id="uncited: any passage"),
        pytest.param("The router waits for workers [9].", [], id="cites none that was given: any passage"),
        pytest.param("Napoleon ruled France [1].", ["Napoleon ruled France [1]."], id="made up"),
        pytest.param("Napoleon", ["Napoleon"], id="one word that is the whole answer"),
        pytest.param("Sure. The router waits for workers.", [], id="a word that says nothing"),
        pytest.param("# Napoleon of France\nThe router waits. [1]", [], id="a heading"),
        pytest.param("Napoleon and France\n\nThe router waits [1].", [], id="a heading without a mark"),
        pytest.param("**Napoleon and France**\nThe router waits [1].", [], id="a bold heading"),
        pytest.param("About Napoleon and France:\n- The router waits [1]", [], id="what announces a list"),
        pytest.param("- Napoleon ruled France", ["Napoleon ruled France"], id="an item of a list is none"),
        pytest.param("Was Napoleon in France? [1]", [], id="a question"),
        pytest.param("The sources do not mention Napoleon.", [], id="a refusal"),
        pytest.param("I don't know about Napoleon.", [], id="a refusal of one's own"),
        pytest.param("Die Quellen nennen Napoleon nicht.", [], id="a German refusal"),
        pytest.param("来源中没有提到拿破仑的名字。", [], id="a Chinese refusal"),
        pytest.param("Der Router wartet dreißig Sekunden [3].", [], id="German"),
        pytest.param("Napoleon regierte Frankreich [3].", ["Napoleon regierte Frankreich [3]."], id="German, made up"),
        pytest.param("Маршрутизаторы ждут работника [3].", [], id="Russian, other endings"),
        pytest.param("路由器监听端口50051[2]。", [], id="Chinese"),
        pytest.param("拿破仑统治法国[2]。路由器监听[2]。", ["拿破仑统治法国[2]。"], id="Chinese, made up"),
        pytest.param("The router waits, e.g. for workers. [1]", [], id="an abbreviation ends nothing"),
        pytest.param("```\nnapoleon.rule(france)\n```\n[1]", ["```\nnapoleon.rule(france)\n```"], id="code"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_sentences_without_support(answer: str, expected: list[str]) -> None:
    assert doubts(answer) == expected


def test_the_share_is_of_statements() -> None:
    answer = "# Title\nThe router waits for workers [1]. Napoleon ruled France [1]. Who? The router listens."
    assert ground(answer, GIVEN, 0.5).supported_share == pytest.approx(2 / 3)
    assert ground("Sure. Fine.\n\nWho?", GIVEN, 0.5).supported_share == 1.0
    assert ground("", (), 0.5).given_passages == 0


def test_without_passages_no_statement_has_support() -> None:
    assert ground("The router waits for workers [1].", (), 0.5).supported_share == 0.0


def test_the_threshold_decides() -> None:
    half = "The router waits for Napoleon of France."
    assert (doubts(half, 0.5), doubts(half, 0.51)) == ([], [half])


EXTREMES = [
    "[1]",
    "[1,",
    "[[",
    ".",
    "!?",
    ". [1",
    "? [1]",
    '?"',
    "a. ",
    "a\n",
    "\n",
    " ",
    "`",
    "**",
    "> ",
    "1,",
    "路",
    "。",
]


@pytest.mark.parametrize("extreme", EXTREMES, ids=repr)
def test_time_and_size_are_bounded_whatever_the_answer_is(extreme: str) -> None:
    answer = extreme * (2 * ANSWER_LIMIT // len(extreme))
    started_s = time.process_time()
    found = ground(answer, GIVEN, 0.5)
    assert time.process_time() - started_s < 3.0, "it has to grow with the answer's length and no faster"
    assert max(len(found.citations), len(found.unsupported)) <= FOUND_LIMIT
