"""ghz's report as numbers."""

from loadtest.load.ghz import Calls, read


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
