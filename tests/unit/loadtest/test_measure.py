"""What a load generator said, and what Python's client saw, become the same kind of row."""

import os
from pathlib import Path

import pytest

from loadtest.loadgen import Loadgen, added_us
from loadtest.machine import TICK_S, Moment, Used, between, busy_s, tree_used, used
from loadtest.measure import Spent, Way, from_loadgen, from_seen
from loadtest.streams import Seen, openai_sse

SPENT = Spent(router_s=0.4, envoy_s=0.2, workers_s=0.1, client_s=0.3, elapsed_s=2.0, machine_share=0.5, other_cores=0.1)


def way(client: object) -> Way:
    return Way("Weft", "127.0.0.1:1", [1], [2], [3], client)  # type: ignore[arg-type] # no client is called here


def test_loadgen_counts_what_is_missing() -> None:
    spread = {"p50": 1.0, "p99": 2.0, "max": 3.0}
    said = {
        "ok": 9,
        "tokens": 950,
        "reads": 475,
        "tps": 500.0,
        "loadgen_cpu": 0.095,
        "ttft": spread,
        "itl": spread,
        "errors": {"timeout": 1},
    }
    run = from_loadgen(way(Loadgen(Path("loadgen"))), 10, 100, said, SPENT)
    assert (run.lost, run.failed, run.errors) == (50, 1, {"timeout": 1})
    assert run.path_us == pytest.approx(0.6e6 / 950)
    assert run.client_us == pytest.approx(100.0)
    assert run.chunks_per_token == 0.5


def test_python_client_counts_what_is_missing_out_of_order_or_cut() -> None:
    whole = Seen(ttft_s=0.01, tokens=4, chunks=2, gaps_s=[0.02, 0.0, 0.02])
    cut = Seen(ttft_s=0.03, tokens=3, chunks=3, wrong=1, failed="UNAVAILABLE", gaps_s=[0.02, 0.04])
    silent = Seen(failed="RESOURCE_EXHAUSTED")
    run = from_seen(way(openai_sse), 3, 4, [whole, cut, silent], SPENT)
    assert (run.tokens, run.lost, run.wrong, run.failed) == (7, 5, 1, 2)
    assert run.errors == {"UNAVAILABLE": 1, "RESOURCE_EXHAUSTED": 1}
    assert (run.ttft_p50_ms, run.itl_max_ms) == (30.0, 40.0)


def test_pairs_are_differences_without_the_first_and_without_failures() -> None:
    times = [(100, "ok"), (900, "ok"), (100, "ok"), (150, "ok"), (100, "ok"), (0, "timeout"), (110, "ok"), (130, "ok")]
    rows = [{"ttft_us": str(us), "result": result} for us, result in times]
    assert added_us(rows) == ([50, 20], 1)


def test_ticks_are_believed_where_threads_ended() -> None:
    start = Used(1.0, 1.0)
    assert Used(1.5, 1.51).since(start) == 0.5
    assert Used(1.1, 1.9).since(start) == pytest.approx(0.9)
    assert between({7: start}, {7: Used(1.5, 1.5), 8: Used(0.2, 0.2)}) == pytest.approx(0.7)


def test_busy_is_all_but_idle_and_waiting_for_disks() -> None:
    assert busy_s("cpu  100 1 50 9000 70 2 3 4 5 6\ncpu0 1") == pytest.approx(160 * TICK_S)


def test_a_process_that_is_gone_used_nothing() -> None:
    assert used(2**22 + 1) == Used()
    assert tree_used([2**22 + 1]) == {}


def test_this_process_is_its_own() -> None:
    before = Moment.now()
    sum(range(3_000_000))
    after = Moment.now()
    assert after.own[os.getpid()].since(before.own[os.getpid()]) > 0
    assert after.others_since(before) <= (os.cpu_count() or 1) + 0.5
