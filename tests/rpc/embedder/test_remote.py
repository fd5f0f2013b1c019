"""Models behind servers: what is sent, what is checked, what is tried again. TEI is a stand-in; llama.cpp is real."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.embedder.ports import Embedded
from services.kit.errors import Exhausted, Internal, InvalidArgument, Unavailable
from services.kit.settings import SettingsError, load_settings
from tests.fakes.embedder import vector_of
from tests.fakes.tiny_gguf import write_tiny_gguf
from tests.rpc.embedder.loading import Load, embed
from tests.rpc.embedder.remote_server import MAX_TEXTS, MAX_TOKENS, RemoteServer, remote_server

KINDS = [pytest.param("tei", id="TEI"), pytest.param("openai", id="OpenAI")]


@pytest.fixture
def server() -> Iterator[RemoteServer]:
    with remote_server() as found:
        yield found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_vectors_tokens_and_what_it_is(server: RemoteServer, load: Load, kind: str, encoding: str) -> None:
    model = await load(kind=kind, url=server.url, encoding=encoding, api_key="secret")
    assert (model.info.name, model.info.dimensions) == ("mine", 64)
    found = await embed(model, "a small text", "another")
    assert [one.vector.tolist() for one in found] == [
        pytest.approx(vector_of(text), abs=1e-6) for text in ("a small text", "another")
    ]
    assert sum(one.tokens for one in found) == 8
    assert server.keys == {"Bearer secret"}


async def test_no_proxy_stands_before_this_machine(
    server: RemoteServer, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        # Nobody listens there.
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await load(kind="openai", url=server.url, api_key="secret", start_limit_s=0.0)
    assert server.keys == {"Bearer secret"}


async def test_tei_limits_are_kept_and_what_is_cut_is_told(server: RemoteServer, load: Load) -> None:
    model = await load(kind="tei", url=server.url, batch_texts=32)
    assert model.batches.texts == MAX_TEXTS
    assert model.info.max_tokens == MAX_TOKENS
    short, long = await model.prepare(["one two", "word " * 40], query=False)
    assert (short.truncated, long.truncated, long.tokens) == (False, True, MAX_TOKENS)


@pytest.mark.parametrize("kind", KINDS)
async def test_prefixes_go_before_texts_by_their_purpose(server: RemoteServer, load: Load, kind: str) -> None:
    model = await load(kind=kind, url=server.url, query_prefix="query: ", passage_prefix="passage: ")
    await embed(model, "text", query=True)
    await embed(model, "text", query=False)
    sent = [body.get("input") or body.get("inputs") for _, body in server.seen if body]
    assert sent[-2:] == [["query: text"], ["passage: text"]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [429, 503])
async def test_full_and_away_are_tried_again(server: RemoteServer, load: Load, kind: str, status: int) -> None:
    model = await load(kind=kind, url=server.url)
    server.script = [status, status]
    assert len(await embed(model, "text")) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        pytest.param(429, Exhausted, id="full"),
        pytest.param(503, Unavailable, id="away"),
        pytest.param(500, Internal, id="broken"),
        pytest.param(401, Internal, id="a wrong key"),
    ],
)
async def test_what_stays_wrong_is_told(server: RemoteServer, load: Load, status: int, error: type[Exception]) -> None:
    model = await load(kind="openai", url=server.url, retries=1)
    server.script = [status] * 2
    with pytest.raises(error, match=f"{server.url}.*{status}"):
        await embed(model, "text")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refused_text_costs_the_others_nothing(server: RemoteServer, load: Load, kind: str) -> None:
    model = await load(kind=kind, url=server.url)
    prepared = await model.prepare(["one", "poison", "three", "four"], query=False)
    found = await model.embed(prepared, None)
    assert [type(one) for one in found] == [Embedded, InvalidArgument, Embedded, Embedded]
    assert "poison" in str(found[1])


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        pytest.param("dimensions", 63, "WRONG_DIMENSIONS", id="size"),
        pytest.param("dropped", 1, "WRONG_COUNT", id="count"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_wrong_vectors_are_never_passed_on(
    server: RemoteServer, load: Load, kind: str, field: str, value: int, reason: str
) -> None:
    model = await load(kind=kind, url=server.url)
    setattr(server, field, value)
    with pytest.raises(Internal) as caught:
        await embed(model, "one", "two")
    assert caught.value.reason == reason


async def test_a_server_that_is_not_there_is_named(load: Load) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        await load(kind="tei", url="http://127.0.0.1:9", start_limit_s=0.2)


async def test_dimensions_of_the_settings_are_checked(server: RemoteServer, load: Load) -> None:
    with pytest.raises(Unavailable, match="64 dimensions"):
        await load(kind="openai", url=server.url, dimensions=128)


def test_a_kind_without_what_it_needs_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match="kind tei needs url"):
        load_settings(embedder={"models": {"mine": {"kind": "tei"}}})


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


async def test_a_gguf_model_embeds_and_cuts(load: Load, gguf: Path) -> None:
    model = await load(kind="gguf", path=gguf, pooling="mean", max_tokens=64, threads=1)
    one, again, other = await embed(model, "The same text.", "The same text.", "Something else entirely.")
    assert np.linalg.norm(one.vector) == pytest.approx(1.0, abs=1e-5)
    assert one.vector @ again.vector == pytest.approx(1.0, abs=1e-4)
    assert one.vector @ other.vector < 0.999
    (long,) = await embed(model, "word " * 500)
    assert (long.truncated, long.tokens) == (True, 64)


async def test_a_missing_gguf_file_is_named_at_once(load: Load, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"nothing\.gguf is not there"):
        await load(kind="gguf", path=tmp_path / "nothing.gguf")


async def test_llama_cpp_itself_is_an_openai_server(load: Load, gguf: Path) -> None:
    inner = await load(kind="gguf", path=gguf, pooling="mean", max_tokens=64, threads=1)
    backend: Any = inner._backend  # type: ignore[attr-defined] # the port that it listens on and its key
    key = backend._client._client.headers["authorization"].removeprefix("Bearer ")
    outer = await load(kind="openai", url=backend._server.listening_address, api_key=key, remote_name="tiny")
    texts = ("Two ways to one vector.", "And another.")
    for one, other in zip(await embed(inner, *texts), await embed(outer, *texts), strict=True):
        assert one.vector @ other.vector == pytest.approx(1.0, abs=1e-4)
        assert one.tokens == other.tokens


@pytest.mark.parametrize("kind", KINDS)
async def test_whether_it_is_there_is_asked_without_a_text(server: RemoteServer, load: Load, kind: str) -> None:
    model = await load(kind=kind, url=server.url)
    texts = len([body for _, body in server.seen if body])
    server.script = [503, 429]
    assert server.url in await model.why_away()
    assert await model.why_away() == ""
    assert await model.why_away() == ""
    assert len([body for _, body in server.seen if body]) == texts
