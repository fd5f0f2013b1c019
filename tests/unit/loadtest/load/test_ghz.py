"""ghz's report as numbers."""

from pathlib import Path

import pytest

from loadtest.load.ghz import Calls, WrongScenario, load, read


def test_report_is_read() -> None:
    report = {
        "count": 100,
        "rps": 12.5,
        "latencyDistribution": [{"percentage": 50, "latency": 1_500_000}, {"percentage": 99, "latency": 9_000_000}],
        "statusCodeDistribution": {"OK": 97, "Unavailable": 3},
    }
    assert read(report) == Calls(100, 12.5, {50: 1.5, 99: 9.0}, {"Unavailable": 3})


def test_nothing_answered() -> None:
    assert read({"count": 0, "rps": 0, "latencyDistribution": None}) == Calls(0, 0, {}, {})


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('[a]\nabout = "x"\n', "lacks call, data"),
        ('[a]\nabout = "x"\ncall = "y"\ndata = {}\nfast = 1\n', "has fast"),
        ("a = 1\n", "no table"),
        ("[a\n", "no TOML"),
        (None, "No such file"),
    ],
)
def test_a_wrong_scenario_file_says_what_is_wrong(tmp_path: Path, text: str | None, word: str) -> None:
    file = tmp_path / "some.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(WrongScenario, match=word):
        load(file)
