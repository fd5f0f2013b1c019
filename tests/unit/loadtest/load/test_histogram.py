"""Histograms keep three digits, and the form that HdrHistogram's tools read."""

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram

from loadtest.load.histogram import Histogram


def _filled(times: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Histogram:
    found = Histogram()
    found.record_all(times)
    return found


def test_quantiles_are_exact_to_three_digits() -> None:
    times = np.random.default_rng(5).exponential(0.02, 100_000)
    found = _filled(times)
    for percent in (50.0, 90.0, 99.0, 99.9):
        assert found.quantile_s(percent) == pytest.approx(float(np.quantile(times, percent / 100)), rel=2e-3)
    assert found.mean_s == pytest.approx(float(times.mean()), rel=1e-3)
    assert found.max_s == times.max()
    assert found.count == 100_000


def test_one_by_one_is_the_same_as_all_at_once() -> None:
    times = np.array([0.0, 1e-6, 0.002047, 0.002048, 0.0409, 1.0, 59.9, 3599.0, 9999.0])
    single = Histogram()
    for seconds in times:
        single.record(float(seconds))
    assert list(single.points()) == list(_filled(times).points())


def test_hdr_tools_read_the_same_quantiles() -> None:
    found = _filled(np.random.default_rng(6).exponential(0.5, 5000))
    theirs = HdrHistogram.decode(found.encoded())
    assert theirs.get_total_count() == 5000
    for percent in (50.0, 99.0, 99.9):
        assert found.quantile_s(percent) * 1e6 == pytest.approx(theirs.get_value_at_percentile(percent), rel=2e-3)
    again = Histogram.decoded(found.encoded())
    assert again.summary()["p99_ms"] == pytest.approx(found.summary()["p99_ms"], rel=2e-3)


def test_adding_is_as_if_all_had_been_recorded_together() -> None:
    a, b = np.random.default_rng(1).exponential(0.01, 1000), np.random.default_rng(2).exponential(0.1, 500)
    both = _filled(a)
    both.add(_filled(b))
    assert list(both.points()) == list(_filled(np.concatenate([a, b])).points())


def test_nothing_recorded() -> None:
    assert Histogram().quantile_s(99.0) == 0.0
    assert Histogram().summary()["count"] == 0


def test_what_is_no_histogram_is_said_so() -> None:
    with pytest.raises(ValueError, match="no HdrHistogram"):
        Histogram.decoded("bm9uZQ==")
