"""What stands in results.json and on the page: rates over the time of sending, no secrets, no loads from elsewhere."""

import json
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.load import results
from loadtest.load.collect import Collector, Objectives
from loadtest.load.commands import options
from loadtest.load.commands.report import report
from loadtest.load.histogram import Histogram
from loadtest.load.own_cost import OwnCost
from loadtest.load.page import page, sweep_page
from loadtest.load.record import OK, Record, Request
from loadtest.load.results import Outcome
from loadtest.load.runner import Ran
from loadtest.load.scenario import Scenario
from loadtest.load.schedule import Phase
from loadtest.load.summary import USERS_COLUMNS, markdown, users_cells
from loadtest.load.watch import Look, Seen
from services.cli.problem import UsageProblem

PHASES = (Phase(1.0, 10.0, "1: 1/s"), Phase(2.0, 10.0, "2: 2/s"))


def _record(number: int, due_s: float, times: list[float], group: str, code: str = OK) -> Record:
    record = Record(Request(number, due_s, (("user", "x"),), 4, group=group), sent_s=due_s, code=code)
    for index, at_s in enumerate(times):
        record.token(at_s, index, 1)
    record.ended_s = times[-1] if times else due_s + 1.0
    return record


def _outcome(records: list[Record], stopped_s: float | None = None, **fields: Any) -> Outcome:
    collector = Collector(Objectives())
    for record in records:
        collector.take(record)
    ran = Ran(OwnCost(1.0, 40.0, Histogram()), 40.0, 0, stopped_s)
    scenario = Scenario(phases=PHASES, **fields)
    seen = Seen([Look(1.0, 7, {"<w> $1": ("serving", 1, 2, 0.5)})])
    return Outcome("a <run> [red]", scenario, collector, ran, seen, "here:1", 0.0)


def test_tokens_after_the_sending_raise_no_rate() -> None:
    """An overload is answered for long after it: its tokens a second are those of the time of sending."""
    found = results.as_json(_outcome([_record(n, n, [n + 15.5, n + 30.5], "1: 1/s") for n in range(10)]))
    assert found["whole"]["tokens"] == 20
    assert found["whole"]["tokens_per_s"] == pytest.approx(5 / 20)
    assert found["groups"]["1: 1/s"]["tokens_per_s"] == 0.0
    assert found["groups"]["1: 1/s"]["rate_per_s"] == 1.0


def test_a_run_that_was_stopped_counts_the_time_until_then_and_says_so() -> None:
    records = [_record(n, float(n), [n + 0.5], "1: 1/s") for n in range(10)]
    records += [_record(10 + n, 10 + n / 2, [10.5 + n / 2], "2: 2/s") for n in range(10)]
    found = results.as_json(_outcome(records, stopped_s=15.0))
    assert found["interrupted_s"] == 15.0
    assert found["whole"]["rate_per_s"] == pytest.approx(20 / 15, abs=1e-3)
    assert found["groups"]["2: 2/s"]["rate_per_s"] == 2.0
    assert "interrupted" in found["generator"]["warnings"][0]
    assert "interrupted" in markdown(found)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["-H", "Authorization: Bearer abc"], "weft load -H 'Authorization: ***'"),
        (["--header", "x-api-key:abc"], "weft load --header 'x-api-key:***'"),
        (["--header=X-Api-Key: abc"], "weft load '--header=X-Api-Key: ***'"),
        (["-HX-Api-Key: abc"], "weft load '-HX-Api-Key: ***'"),
        (["--set", "openai.api_key=abc"], "weft load --set 'openai.api_key=***'"),
        (["--start", "--set openai.api_keys=[a, abc] --workers 2"], "--workers 2'"),
        (["--start", "--set x.token='a abc' --workers 2"], "--workers 2'"),
        (["--max-tokens=64", "--key-env", "API_KEY"], "weft load --max-tokens=64 --key-env API_KEY"),
    ],
)
def test_the_command_shows_no_secret(arguments: list[str], shown: str) -> None:
    line = results.command_line(["load", *arguments])
    assert shown in line
    assert "abc" not in line


@pytest.mark.parametrize("tokens", [0, 3, 12])
def test_usage_spreads_tokens_over_chunks_without_an_index(tokens: int) -> None:
    record = Record(Request(1, 0.0, (("user", "x"),), 16))
    for at_s in (1.0, 2.0, 3.0, 4.0, 5.0):
        record.token(at_s, -1, 1)
    record.counted(tokens)
    record.code, record.ended_s = OK, 6.0
    assert record.tokens == max(5, tokens)
    assert record.coalesced == max(0, tokens - 5)
    assert record.counts == array("I", [2, 2, 3, 2, 3] if tokens == 12 else [1] * 5)
    collector = Collector(Objectives())
    collector.take(record)
    assert collector.whole.short == 0
    assert collector.whole.itl.count == max(5, tokens) - 1


def test_the_whole_page_is_one_file_and_escapes_what_it_shows() -> None:
    found = results.as_json(_outcome([_record(n, n, [n + 0.5, n + 1.0], "1: 1/s") for n in range(10)]))
    text = page(found)
    for word in ("<script", "<link", "<img", "@import", "<run>", "<w>", 'src="'):
        assert word not in text
    assert "a &lt;run&gt; [red]" in text
    assert "mathdefault" not in text
    assert "&lt;w&gt; $1" in text


@pytest.mark.parametrize("codes", [(), ("UNAVAILABLE",)], ids=["empty", "all-failed"])
def test_a_run_without_answers_has_a_page_and_a_summary(codes: tuple[str, ...]) -> None:
    found = results.as_json(_outcome([_record(n, 0.5, [], "1: 1/s", code) for n, code in enumerate(codes)]))
    assert "<svg" in page(found)
    assert markdown(found)


def test_users_stand_side_by_side_with_their_queues() -> None:
    runs = []
    for users in (10, 100):
        outcome = _outcome([_record(n, n, [n + 0.5, n + 1.0], f"{users} users") for n in range(10)], users=users)
        runs.append(results.as_json(replace(outcome, name=f"{users} users")))
    rows = [users_cells(run) for run in runs]
    assert [(row[0], row[-1]) for row in rows] == [("10", "7"), ("100", "7")]
    assert len(rows[0]) == len(USERS_COLUMNS)
    text = sweep_page(runs)
    assert "users at once" in text
    assert "mathdefault" not in text
    assert "in the router's queue" in text


def test_the_queues_of_a_run_stand_over_its_time() -> None:
    found = results.as_json(_outcome([_record(n, n, [n + 0.5, n + 1.0], "1: 1/s") for n in range(10)]))
    text = page(found)
    for word in ("in the router's queue", "waiting in workers", "waiting in each worker", "1: 1/s"):
        assert word in text
    unwatched = found | {"mesh": found["mesh"] | {"looks": []}}
    assert "in the router's queue" not in page(unwatched)


def test_what_clients_noticed_of_faults_is_on_the_page() -> None:
    found = results.as_json(_outcome([_record(n, n, [n + 0.5, n + 1.0], "1: 1/s") for n in range(10)]))
    counts = dict.fromkeys(("under_way", "moved", "failed", "lost_tokens", "repeated_tokens"), 3)
    effect = {"at_s": 5.0, "what": "kill", "worker": "worker-7", "recovery_ms": 123.4} | counts
    text = page(found | {"effects": [effect]})
    assert "<td>kill</td><td>5.0</td><td>worker-7</td>" in text
    assert "<td>123</td>" in text


def test_pages_are_made_again_of_a_run_a_sweep_and_a_search(tmp_path: Path) -> None:
    found = results.as_json(_outcome([_record(n, n, [n + 0.5, n + 1.0], "1: 1/s") for n in range(10)]))
    results.write(tmp_path / "run", found)
    for users in (5, 20):
        fields = {"scenario": found["scenario"] | {"users": users}, "name": f"{users} users"}
        results.write(tmp_path / "sweep" / f"users-{users}", found | fields)
    search = {
        **{key: found[key] for key in ("schema", "command", "began_at", "elapsed_s", "commit", "machine")},
        **{key: found[key] for key in ("target", "scenario")},
        "bounds": {"ttft_p99_s": 0.5, "itl_p99_s": None, "error_share": 0.0},
        "holds_per_s": 10.0,
        "holds_runs": {"held": 3, "broke": 1},
        "breaks_per_s": None,
        "breaks_runs": None,
        "probes": [],
    }
    results.write(tmp_path / "search" / "overload", found)
    (tmp_path / "search" / "capacity.json").write_text(json.dumps(search))
    words = {"run": "Latency by percentile", "sweep": "By users", "search": "held in 3 of 4 runs"}
    for name, word in words.items():
        report(tmp_path / name)
        assert word in (tmp_path / name / "report.html").read_text()
    (tmp_path / "search" / "capacity.json").write_text(json.dumps(search | {"schema": 0}))
    for name in ("search", "nowhere"):
        with pytest.raises(UsageProblem, match=name):
            report(tmp_path / name)


def test_a_folder_that_cannot_be_written_to_is_found_before_the_load(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageProblem, match="--out"):
        options.folder(tmp_path / "file", "run")
    assert options.folder(tmp_path / "new", "a run").parent == tmp_path / "new"
