"""Tables: what stands in them, and that they fit."""

from io import StringIO

import pytest
from rich.console import Console

from loadtest.figures import AddedRun, Figures
from loadtest.report import WIDTH, markdown, show
from tests.unit.loadtest.rows import request_run, stream_run


@pytest.fixture
def found() -> Figures:
    figures = Figures(machine="a machine", when="today", idle_mib={"router": 60.0, "envoy": 40.0})
    figures.ttft_ms = {"worker, gRPC": [1.0, 1.0, 1.0], "Weft router, gRPC": [1.5, 1.6, 1.7]}
    figures.added = [AddedRun("smg-rr", 60, 0, 830.0, 900.0, 0.2, 0.1)]
    figures.requests = [request_run(), request_run(path="smg-rr", envoy_us=0.0)]
    for streams in (10, 1000):
        names = ("Weft router, gRPC", "Weft Envoy, gRPC", "Weft Envoy, SSE", "no router", "smg-rr", "envoy-lr")
        figures.runs += [stream_run(streams=streams, path=name, tokens_per_s=49_876.0) for name in names]
    return figures


def printed(found: Figures) -> str:
    text = StringIO()
    show(found, Console(file=text, width=WIDTH, color_system=None))
    return text.getvalue()


def test_tables_fit_and_nothing_is_cut(found: Figures) -> None:
    found.runs.append(stream_run(streams=2000, path_us=123.4, router_us=100.0, ttft_p99_ms=12_345.6, itl_max_ms=2345.6))
    text = printed(found)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "…" not in text
    for words in ("Weft router, gRPC", "+0.60", "830", "49,876", "12,345.6"):
        assert words in text


def test_errors_are_told_by_kind(found: Figures) -> None:
    found.runs = [stream_run(failed=2, errors={"timeout": 2})]
    assert "2 answers ended with timeout" in printed(found)


def test_disturbed_runs_are_told(found: Figures) -> None:
    found.runs = [stream_run(path_us=10.0), stream_run(path_us=90.0, other_cores=1.0)]
    assert "1/2" in printed(found)
    found.runs = [stream_run(other_cores=1.0)]
    assert "0/1" in printed(found)


def test_markdown_has_every_table(found: Figures) -> None:
    text = markdown(found)
    assert "| smg-rr" in text
    assert "**What clients saw (ms)**" in text
    assert sum(line.startswith("|-") for line in text.splitlines()) == text.count("**") / 2
