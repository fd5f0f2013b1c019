"""`weft ingest`, `weft ingests` and `weft quarantine` against a retriever on a real socket."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.__main__ import build
from tests.fakes.ingesting_retriever import IngestingRetriever


@pytest.fixture
def retriever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[IngestingRetriever]:
    monkeypatch.chdir(tmp_path)
    with IngestingRetriever() as found:
        yield found


def weft(retriever: IngestingRetriever, *arguments: str) -> Any:
    return CliRunner().invoke(build(), [*arguments, "--target", retriever.address])


def test_a_broken_ingest_goes_on_without_sending_again(retriever: IngestingRetriever, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for n in range(6):
        (folder / f"{n}.md").write_text(f"heron {n}")
    retriever.break_after = 3
    broken = weft(retriever, "ingest", str(folder))
    assert broken.exit_code == 1
    assert "3 of 6 documents were done; ingesting again goes on from there" in broken.stderr
    retriever.break_after = 100
    (folder / "0.md").write_text("changed")
    result = weft(retriever, "ingest", str(folder), "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["documents"], report["indexed"], report["unchanged"], report["chunks"]) == (6, 4, 2, 18)
    assert len(retriever.sent) == 3 + 4
    assert weft(retriever, "ingest", str(folder), "--again").exit_code == 0
    assert len(retriever.sent) == 3 + 4 + 6


def test_failures_are_code_1_and_named(retriever: IngestingRetriever, tmp_path: Path) -> None:
    (tmp_path / "bad.md").write_text("bad")
    (tmp_path / "good.md").write_text("good")
    result = weft(retriever, "ingest", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr == "bad.md: it is bad\n"
    assert result.stdout.startswith("2 documents: 1 indexed, 1 failed; 6 chunks, ")


def test_uris_become_a_job(retriever: IngestingRetriever) -> None:
    result = weft(retriever, "ingest", "https://example.org/a", "s3://birds/")
    assert result.exit_code == 1
    assert result.stdout == "done; 2 documents: 1 indexed, 1 failed\n"
    assert "weft quarantine list" in result.stderr
    assert weft(retriever, "ingest", "https://example.org/a", "--detach").stdout == "job-1\n"
    assert weft(retriever, "ingests", "watch", "job-1").exit_code == 1
    (job,) = json.loads(weft(retriever, "ingests", "list", "--json").stdout)
    assert (job["job_id"], job["state"], job["failed"], job["ended_at"]) == ("job-1", "done", 1, "")
    assert "job-1" in weft(retriever, "ingests", "list").stdout


def test_the_quarantine(retriever: IngestingRetriever) -> None:
    rows = json.loads(weft(retriever, "quarantine", "list", "--json").stdout)
    assert [(row["document_id"], row["problem"]) for row in rows] == [("d0", "0.pdf is bad"), ("d1", "1.pdf is bad")]
    assert "1.pdf is bad" in weft(retriever, "quarantine", "list").stdout
    result = weft(retriever, "quarantine", "retry")
    assert (result.exit_code, result.stdout) == (1, "0.pdf: indexed\n1.pdf: 1.pdf is bad\n")
    assert weft(retriever, "quarantine", "clear", "d0", "--index", "default").stdout == "2 forgotten\n"
    (request,) = retriever.cleared
    assert (request.index, list(request.document_ids)) == ("default", ["d0"])


def test_a_name_that_is_no_utf_8_fails_alone(retriever: IngestingRetriever, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"gr\xfcn.md")).write_text("green")
    (tmp_path / "good.md").write_text("good")
    result = weft(retriever, "ingest", str(tmp_path), "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["indexed"] == 1
    (failure,) = report["failures"]
    assert (failure["source"], failure["problem"]) == (f"{tmp_path}/gr\\udcfcn.md", "its name is not UTF-8; rename it")
