"""ghz's report as numbers, and what stops it in words."""

import os
from pathlib import Path

import pytest

from loadtest.load.commands.ghz import show_tables
from loadtest.load.ghz import (
    Calls,
    GhzFailed,
    GhzScenario,
    WrongScenario,
    carried_ttft_ms,
    find_ghz,
    load,
    read,
    run,
    version,
)
from loadtest.load.ghz_access import Access, WrongAccess


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


@pytest.mark.parametrize(
    ("line", "word"),
    [
        pytest.param("data = 3", "data has to be a message", id="data"),
        pytest.param('data = {}\nmessages = "2"', "messages has to be a number", id="text-for-a-number"),
        pytest.param("data = {}\nmessages = -1", "0 or more", id="negative"),
        pytest.param("data = {}\nttft = 1", "ttft has to be true or false", id="number-for-a-switch"),
    ],
)
def test_a_value_of_a_wrong_kind_is_named(tmp_path: Path, line: str, word: str) -> None:
    file = tmp_path / "some.toml"
    file.write_text(f'[a]\nabout = "x"\ncall = "y"\n{line}\n')
    with pytest.raises(WrongScenario, match=word):
        load(file)


def test_the_words_of_failures_stand_by_status() -> None:
    report = {
        "count": 9,
        "rps": 1,
        "statusCodeDistribution": {"OK": 2, "Unavailable": 6, "Canceled": 1},
        "errorDistribution": {
            "rpc error: code = Unavailable desc = seldom": 1,
            "rpc error: code = Unavailable desc = often": 5,
            "rpc error: code = Canceled desc = left": 1,
        },
    }
    calls = read(report, interrupted=True)
    assert (calls.failed, calls.errors, calls.succeeded) == ({"Unavailable": 6}, {"Unavailable": "often"}, 3)


@pytest.mark.parametrize(
    "text",
    [
        "finished:<timing:<ttft:<seconds:1 nanos:500000 > total:<>>>",
        "finished:{timing:{ttft:{seconds:1 nanos:500000}}}",
    ],
    ids=["angles", "braces"],
)
def test_ttft_is_read_in_either_text_form(text: str) -> None:
    assert carried_ttft_ms(f'{{"response":"tokens:<>"}}\n{{"response":"{text}"}}') == [1000.5]


@pytest.mark.parametrize(
    ("access", "word"),
    [
        pytest.param(Access(ca_file="nowhere.pem"), "--ca-file: there is no file nowhere.pem", id="no-ca"),
        pytest.param(Access(ca_file=__file__), "--ca-file: .* holds no certificate", id="no-certificate"),
        # A file that is there, and that not even root can read from its beginning.
        pytest.param(Access(ca_file="/proc/self/mem"), "--ca-file: /proc/self/mem cannot be read", id="unreadable"),
        pytest.param(Access(cert_file="a.pem"), "belong together", id="no-key"),
        pytest.param(Access(cert_file=__file__, key_file=__file__), "no certificate and its key", id="no-pair"),
        pytest.param(Access(skip_verify=True, ca_file="a.pem"), "--skip-verify believes any", id="both"),
    ],
)
def test_wrong_files_are_named_before_anything_is_sent(access: Access, word: str) -> None:
    with pytest.raises(WrongAccess, match=word):
        access.check()


def test_where_ghz_was_looked_for_and_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.load.ghz.ROOT", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GhzFailed, match=f"no ghz in {tmp_path}.*make tools.*go install"):
        find_ghz()


def test_a_program_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ghz"
    file.write_bytes(b"\x7fELF and nothing more")
    file.chmod(0o755)
    with pytest.raises(GhzFailed, match=f"{file} cannot be run: Exec format error"):
        version(str(file))


def test_another_program_of_that_name_is_told_by_its_words(tmp_path: Path) -> None:
    file = tmp_path / "ghz"
    file.write_text("#!/bin/sh\necho unknown long flag --protoset >&2\nexit 1\n")
    file.chmod(0o755)
    scenario = GhzScenario("some", "", "some.Service/Call", {})
    with pytest.raises(GhzFailed, match=f"{file} reported nothing: unknown long flag --protoset"):
        run(str(file), scenario, "127.0.0.1:1", 1, 1)


@pytest.mark.parametrize(
    ("script", "count"),
    [
        pytest.param("""trap 'echo "{\\"count\\": 7, \\"rps\\": 1}"; exit' INT""", 7, id="reports"),
        pytest.param("trap 'exit 3' INT", None, id="reports-nothing"),
        pytest.param("trap '' INT", None, id="hangs"),
    ],
)
def test_what_takes_too_long_is_stopped_and_leaves_what_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, count: int | None
) -> None:
    monkeypatch.setattr("loadtest.load.ghz.RUN_LIMIT_S", 1.5)
    monkeypatch.setattr("loadtest.load.ghz.STOP_LIMIT_S", 10.0 if "exit" in script else 0.2)
    file = tmp_path / "ghz"
    file.write_text(f"#!/bin/sh\n{script}\nwhile :; do read -r _ < '{tmp_path}/never'; done\n")
    os.mkfifo(tmp_path / "never")
    file.chmod(0o755)
    with pytest.raises(GhzFailed, match=r"did not end in 1\.5 s") as caught:
        run(str(file), GhzScenario("some", "", "some.Service/Call", {}), "127.0.0.1:1", 1, 1)
    calls = caught.value.calls
    assert (calls and (calls.count, calls.interrupted)) == (count and (count, True))


def test_the_tables_fit_into_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    latencies = {50: 12345.6, 95: 12345.6, 99: 12345.6}
    calls = Calls(100_000, 1234.5, latencies, {"Unavailable": 1000}, ttft_ms=[12345.6] * 50)
    show_tables({"chat-first-token": calls}, load(), 1000)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("12,346" in line for line in lines) == 3
