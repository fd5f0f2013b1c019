"""The commands that talk to a mesh, as processes of their own, against a stand-in behind a real Envoy."""

import asyncio
import json
import os
import pty
import signal
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rpc.cli.conftest import Front
from tests.rpc.cli.fake_mesh import FakeMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_S = 30


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


async def begin(front: Front, *arguments: str) -> Process:
    command = (sys.executable, "-m", "services.cli", *arguments, "--target", front.target)
    return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)


async def weft(front: Front, *arguments: str, typed: str = "") -> Ran:
    process = await begin(front, *arguments)
    async with asyncio.timeout(LIMIT_S):
        out, err = await process.communicate(typed.encode())
    assert process.returncode is not None
    assert b"Traceback" not in err
    return Ran(process.returncode, out.decode(), err.decode())


async def test_ask_prints_the_answer_and_its_sources(front: Front) -> None:
    ran = await weft(front, "ask", "Where is the door?", "--index", "house", "--top-k", "3", "--max-tokens", "9")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "The front door. [1]",
        "",
        "[1] Guide  guide.md, Setup › Linux, page 3",
        "[2] Notes  notes.md",
    ]
    asked = front.mesh.router.chats[-1]
    assert (asked.retrieval.index, asked.retrieval.top_k, asked.sampling.max_tokens) == ("house", 3, 9)


async def test_ask_without_retrieval_as_json(front: Front) -> None:
    ran = await weft(front, "ask", "Hello", "--no-retrieval", "--json")
    found = json.loads(ran.out)
    assert (ran.code, found["answer"], found["sources"]) == (0, "The front door.", [])
    assert found["finished"]["worker_id"] == "worker-0"


async def test_ask_says_why_there_is_no_answer(front: Front) -> None:
    ran = await weft(front, "ask", "Hello", "--model", "missing")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "weft: no worker ever served `missing`: ask for another model\n"


async def test_ctrl_c_ends_an_answer_and_stops_the_engine(front: Front) -> None:
    front.mesh.router.more.clear()
    front.mesh.router.cancelled.clear()
    process = await begin(front, "ask", "Hello", "--no-retrieval")
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        assert await process.stdout.read(4) == b"The "
        process.send_signal(signal.SIGINT)
        await front.mesh.router.cancelled.wait()
        _, err = await process.communicate()
    front.mesh.router.more.set()
    assert (process.returncode, err) == (130, b"")


async def test_ingest_names_what_failed_and_takes_the_rest(front: Front, tmp_path: Path) -> None:
    for name in ("a.md", "bad.md", "c.txt"):
        (tmp_path / name).write_text(name)
    ran = await weft(front, "ingest", str(tmp_path), "--index", "house")
    assert ran.code == 1
    assert ran.err == f"{tmp_path}/bad.md: the file is no PDF: save it again\n"
    assert ran.out.startswith("3 documents: 2 indexed, 1 failed; 4 chunks")
    sent = front.mesh.retriever.documents[-3:]
    assert [(one.index, one.document.content) for one in sent] == [
        ("house", b"a.md"),
        ("house", b"bad.md"),
        ("house", b"c.txt"),
    ]


async def test_ingest_as_json(front: Front, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a")
    ran = await weft(front, "ingest", str(tmp_path), "--json")
    found = json.loads(ran.out)
    assert (ran.code, found["documents"], found["indexed"], found["failures"]) == (0, 1, 1, [])


async def test_ingest_of_a_missing_path_sends_nothing(front: Front, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a")
    before = len(front.mesh.retriever.documents)
    ran = await weft(front, "ingest", str(tmp_path / "a.md"), str(tmp_path / "b.md"))
    assert (ran.code, len(front.mesh.retriever.documents)) == (2, before)


async def test_chat_answers_each_turn(front: Front) -> None:
    ran = await weft(front, "chat", typed="Hello\n\nAnd again\n")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.split("\n") == ["The front door.", "The front door.", "", ""]


async def test_chat_on_a_terminal_ctrl_c_cancels_the_turn_and_ctrl_d_ends(front: Front) -> None:
    front.mesh.router.more.clear()
    terminal, side = pty.openpty()
    command = (sys.executable, "-m", "services.cli", "chat", "--target", front.target)
    process = await asyncio.create_subprocess_exec(*command, stdin=side, stdout=side, stderr=side)
    os.close(side)
    said = Reader(terminal)
    try:
        async with asyncio.timeout(LIMIT_S):
            await said("you> ")
            process.send_signal(signal.SIGINT)
            await said("(Ctrl-D ends)")
            os.write(terminal, b"Hello\n")
            await said("The ")
            process.send_signal(signal.SIGINT)
            await said("(cancelled)")
            await said("you> ")
            front.mesh.router.more.set()
            os.write(terminal, b"Again\n")
            await said("The front door.")
            await said("you> ")
            os.write(terminal, b"\x04")
            assert await process.wait() == 0
    finally:
        os.close(terminal)


class Reader:
    """What a terminal has shown and no test has read yet."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._text = ""

    async def __call__(self, words: str) -> None:
        """Reads until after the words."""
        while words not in self._text:
            self._text += (await asyncio.to_thread(os.read, self._terminal, 1024)).decode(errors="replace")
        self._text = self._text.partition(words)[2]


async def test_chat_ends_when_the_mesh_ends_it() -> None:
    mesh = FakeMesh()
    await mesh.start()
    command = (sys.executable, "-m", "services.cli", "chat", "--target", f"127.0.0.1:{mesh.port}")
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        process.stdin.write(b"Hello\n")
        assert await process.stdout.readline() == b"The front door.\n"
        await mesh.stop()
        _, err = await process.communicate()
    assert process.returncode == 1
    assert b"ended the call" in err
    assert b"Traceback" not in err


async def test_workers_as_a_table_and_as_json(front: Front) -> None:
    table, rows = await asyncio.gather(weft(front, "workers"), weft(front, "workers", "--json"))
    assert table.out.splitlines()[1].split() == ["worker-0", "serving", "fake", "0", "0", "0", "0", "0", "1"]
    assert [(row["worker_id"], row["state"]) for row in json.loads(rows.out)] == [
        ("worker-0", "serving"),
        ("worker-1", "away"),
    ]


async def test_doctor_says_which_service_is_away(front: Front) -> None:
    ran = await weft(front, "doctor", "--json")
    found = {finding["name"]: finding for finding in json.loads(ran.out)}
    assert ran.code == 1
    assert found["workers"]["found"].startswith("worker-0 serving, worker-1 away")
    assert "is away" in found["embedder"]["advice"]
    assert all(found[name]["ok"] for name in ("python", "envoy", "engine reader", "data folder", "router", "retriever"))
