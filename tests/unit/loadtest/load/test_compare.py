"""Better, worse, the same, or unsure."""

from typing import Any

import numpy as np
import pytest

from loadtest.load.compare import Change, WrongGate, compare, gate
from loadtest.load.histogram import Histogram


def _run(seed: int, scale: float = 1.0, count: int = 400) -> dict[str, Any]:
    times = {}
    for key in ("ttft", "itl"):
        one = Histogram()
        one.record_all(np.random.default_rng(seed).gamma(9.0, 0.01 * scale, count))
        times[key] = one.summary() | {"hdr": one.encoded()}
    whole = {"times": times, "tokens_per_s": 1000.0 / scale, "goodput_per_s": 0.0, "error_share": 0.0}
    return {"whole": whole | {"lost_tokens": 0, "repeated_tokens": 0}, "mesh": {"us_per_token": {}}}


def _changes(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> dict[str, Change]:
    return {change.metric.name: change for change in compare(a, b)}


def test_twice_as_slow_is_worse() -> None:
    found = _changes([_run(n) for n in range(5)], [_run(n + 10, 2.0) for n in range(5)])
    assert found["ttft.p99"].verdict == "worse"
    assert found["ttft.p50"].ratio == pytest.approx(2.0, rel=0.1)
    assert found["tokens_per_s"].verdict == "worse"
    assert found["error_share"].verdict == "same"


def test_half_is_better() -> None:
    found = _changes([_run(n) for n in range(5)], [_run(n + 10, 0.5) for n in range(5)])
    assert found["ttft.p50"].verdict == "better"
    assert found["tokens_per_s"].verdict == "better"


def test_noise_is_not_called_a_change() -> None:
    found = _changes([_run(n) for n in range(5)], [_run(n + 10) for n in range(5)])
    assert found["ttft.p99"].verdict in ("same", "unsure")


def test_two_single_runs_have_intervals_from_their_ranks() -> None:
    found = _changes([_run(1)], [_run(2, 2.0)])["ttft.p50"]
    assert found.low < found.ratio < found.high
    assert found.verdict == "worse"
    assert _changes([_run(1, count=20)], [_run(2, 1.02, count=20)])["ttft.p99"].verdict == "unsure"


def test_an_error_where_there_was_none_is_worse() -> None:
    bad = _run(2)
    bad["whole"]["error_share"] = 0.1
    assert _changes([_run(1)], [bad])["error_share"].verdict == "worse"


def test_gates() -> None:
    changes = compare([_run(n) for n in range(5)], [_run(n + 10, 2.0) for n in range(5)])
    assert "ttft.p99 is" in gate(changes, "ttft.p99<=1.05")
    assert gate(changes, "ttft.p99<=3") == ""
    assert gate(changes, "tokens_per_s>=0.95") != ""
    for text in ("ttft.p99", "ttft.p99<=much", "nothing<=1"):
        with pytest.raises(WrongGate):
            gate(changes, text)


def test_a_gate_fails_where_something_is_that_was_not() -> None:
    bad = _run(2)
    bad["whole"]["lost_tokens"], bad["whole"]["error_share"] = 5, 0.1
    changes = compare([_run(1)], [bad])
    assert "lost_tokens" in gate(changes, "lost_tokens<=1")
    assert gate(changes, "error_share<=1.05")
    assert gate(changes, "repeated_tokens<=1") == ""
