"""`weft indexes` as a process of its own, against a real retriever."""

import asyncio
import json
import os
import pty
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.embedder import FakeEmbedder
from tests.rpc.retriever.conftest import Retriever, Start, document

BIRDS = [document(f"{name}.md", f"The {name} wades.", index="birds") for name in ("heron", "swan", "stork")]
LIMIT_S = 60


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


async def weft(retriever: Retriever, *arguments: str) -> Ran:
    command = (sys.executable, "-m", "services.cli", "indexes", *arguments, "--target", retriever.address)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment())
    async with asyncio.timeout(LIMIT_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err
    return Ran(process.returncode, out.decode(), err.decode())


def environment() -> dict[str, str]:
    root = Path(__file__).resolve().parents[3]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "gen")]), "COLUMNS": "200"}


async def shown(retriever: Retriever, *arguments: str) -> Any:
    ran = await weft(retriever, *arguments, "--json")
    assert (ran.code, ran.err) == (0, "")
    return json.loads(ran.out)


async def test_an_index_is_made_shown_changed_and_deleted(retriever: Retriever) -> None:
    assert "there is no index" in (await weft(retriever, "list")).out
    wanted = ("--language", "german", "--chunk-tokens", "50", "--chunk-overlap-tokens", "0", "--skip-near-duplicates")
    made = await shown(retriever, "create", "birds", *wanted, "--quantised")
    assert {key: made[key] for key in ("name", "documents", "language", "chunk_tokens", "chunk_overlap_tokens")} == {
        "name": "birds",
        "documents": 0,
        "language": "german",
        "chunk_tokens": 50,
        "chunk_overlap_tokens": 0,
    }
    assert (made["quantised"], made["skip_near_duplicates"], made["min_score"]) == (True, True, None)
    await retriever.ingest(*BIRDS)
    changed = await shown(retriever, "update", "birds", "--rerank", "mmr", "--fusion", "rrf", "--min-score", "0.5")
    assert (changed["rerank"], changed["fusion"], changed["min_score"]) == ("mmr", "rrf", 0.5)
    assert await shown(retriever, "show", "birds") == changed | {"documents": 3, "chunks": 3}
    lines = (await weft(retriever, "show", "birds")).out.splitlines()
    assert {" ".join(line.split()) for line in lines} >= {"documents 3", "quantised yes", "min score 0.5", "aliases -"}
    (_, row) = (await weft(retriever, "list")).out.splitlines()
    assert row.split() == ["birds", "3", "3", "fake", "qdrant-edge"]
    unsure = await weft(retriever, "delete", "birds")
    assert (unsure.code, unsure.err) == (
        2,
        "weft: birds holds 3 documents; say --yes to delete it without being asked\n",
    )
    assert (await weft(retriever, "delete", "birds", "--yes")).out == "birds is deleted, with 3 documents\n"
    assert await shown(retriever, "list") == []


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        pytest.param(["show", "none"], 1, "there is no index none; ingest a document to make it", id="no index"),
        pytest.param(["create", "No"], 1, "'No' does not", id="no name"),
        pytest.param(["create", "i", "--chunk-tokens", "9"], 1, "chunk_tokens must lie between", id="wrong setting"),
        pytest.param(["create", "i", "--fusion", "sum"], 2, "'dbsf', 'rrf'", id="no such fusion"),
        pytest.param(["update", "none"], 2, "say what to change", id="nothing to change"),
        pytest.param(["alias", "set", "now", "none"], 1, "there is no index none", id="alias of nothing"),
        pytest.param(["alias", "remove", "now"], 1, "there is no alias now", id="no alias"),
        pytest.param(["snapshot", "restore", "none"], 1, "there is no snapshot none", id="no snapshot"),
        pytest.param(["snapshot", "delete", "../up"], 1, "a snapshot's name has", id="a snapshot elsewhere"),
        pytest.param(["reembed", "none"], 1, "there is no index none", id="nothing to embed"),
    ],
)
async def test_errors_come_in_words(retriever: Retriever, arguments: list[str], code: int, sentence: str) -> None:
    ran = await weft(retriever, *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert sentence in ran.err


async def test_an_alias_is_set_moved_and_removed(retriever: Retriever) -> None:
    await retriever.ingest(*BIRDS, document("otter.md", "The otter swims.", index="otters"))
    assert (await weft(retriever, "alias", "set", "now", "birds")).out == "now stands for birds\n"
    moved = await weft(retriever, "alias", "set", "now", "otters")
    assert moved.out == "now stands for otters, and stood for birds before\n"
    assert (await shown(retriever, "show", "now"))["aliases"] == ["now"]
    assert (await weft(retriever, "alias", "remove", "now")).out == "now stands for nothing any more\n"
    assert (await shown(retriever, "show", "otters"))["aliases"] == []


async def test_a_snapshot_is_made_restored_and_deleted(retriever: Retriever) -> None:
    await retriever.ingest(*BIRDS)
    made = await shown(retriever, "snapshot", "create", "birds")
    assert (made["index"], made["documents"]) == ("birds", 3)
    name = made["name"]
    assert await shown(retriever, "snapshot", "list", "--index", "birds") == [made]
    assert name in (await weft(retriever, "snapshot", "list")).out
    taken = await weft(retriever, "snapshot", "restore", name)
    assert (taken.code, "the name birds is taken" in taken.err) == (1, True)
    again = await weft(retriever, "snapshot", "restore", name, "--replace")
    assert again.out == f"birds holds the 3 documents of {name}\n"
    copied = await weft(retriever, "snapshot", "restore", name, "--index", "copy")
    assert copied.out == f"copy holds the 3 documents of {name}\n"
    assert (await weft(retriever, "snapshot", "delete", name)).out == f"{name} is deleted\n"
    assert await shown(retriever, "snapshot", "list") == []


async def test_what_a_changed_model_is_told_to_do_works(start: Start, embedder: FakeEmbedder) -> None:
    async with start() as retriever:
        await retriever.ingest(*BIRDS)
    embedder.fingerprint = "another"
    changed = document("heron.md", "The heron flies.", index="birds")
    async with start() as retriever:
        (refused,) = await retriever.ingest(changed)
        assert "`weft indexes reembed birds`" in refused.failure.message
        ran = await weft(retriever, "reembed", "birds")
        assert (ran.code, ran.out) == (0, "birds holds 3 documents with vectors of fake\n")
        assert await retriever.statuses(changed) == ["REPLACED"]
        assert len(await retriever.sources("wades flies", index="birds")) == 3


async def test_a_terminal_sees_how_far_embedding_anew_is(retriever: Retriever, embedder: FakeEmbedder) -> None:
    await retriever.ingest(*BIRDS)
    embedder.gate.clear()
    embedder.waiting.clear()
    screen, end = pty.openpty()
    target = ("--target", retriever.address, "--embedding-model", "other")
    command = (sys.executable, "-m", "services.cli", "indexes", "reembed", "birds", *target)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=end, env=environment())
    os.close(end)
    try:
        async with asyncio.timeout(LIMIT_S):
            seen = b""
            while b"0/3" not in seen:
                seen += await asyncio.to_thread(os.read, screen, 4096)
            embedder.gate.set()
            out, _ = await process.communicate()
    finally:
        os.close(screen)
    assert b"embedding anew" in seen
    assert out == b"birds holds 3 documents with vectors of other\n"
