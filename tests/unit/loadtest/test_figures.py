"""Quantiles, which runs count, and the JSON that a benchmark leaves."""

import json

import pytest

from loadtest.figures import AddedRun, Figures, middle, quantile, undisturbed
from tests.unit.loadtest.rows import request_run, stream_run


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        pytest.param([], 0.5, 0.0, id="none"),
        pytest.param([7.0], 0.99, 7.0, id="one"),
        pytest.param([3.0, 1.0, 2.0], 0.5, 2.0, id="unordered"),
        pytest.param([float(n) for n in range(100)], 0.99, 99.0, id="p99"),
        pytest.param([1.0, 2.0], 1.0, 2.0, id="all"),
    ],
)
def test_quantile(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == expected


def test_disturbed_runs_count_only_where_there_is_no_other() -> None:
    quiet, loud = stream_run(path_us=10.0, other_cores=0.1), stream_run(path_us=90.0, other_cores=1.2)
    assert undisturbed([quiet, loud]) == [quiet]
    assert undisturbed([loud]) == [loud]
    assert middle([quiet, loud, loud], lambda run: run.path_us) == 10.0


def test_figures_survive_json() -> None:
    found = Figures(
        machine="a machine",
        idle_mib={"router": 60.0},
        ttft_ms={"worker, gRPC": [1.0, 2.0]},
        added=[AddedRun("smg-rr", 60, 0, 800.0, 900.0, 0.2, 0.1)],
        requests=[request_run()],
        runs=[stream_run(errors={"timeout": 2})],
    )
    assert Figures.from_json(json.loads(json.dumps(found.to_json()))) == found
