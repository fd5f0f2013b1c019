"""Settings: what wins, what is refused and how it is said, and that the page tells the truth."""

from pathlib import Path

import pytest

from services.kit.settings import SettingsError, load_settings, to_environment
from tests.settings_page import PAGE, page


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, so that no weft.toml of the checkout is read."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_later_ones_win(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "weft.toml").write_text("[router]\nport = 1\nadmin_port = 1\npolicy = 'round_robin'\n")
    monkeypatch.setenv("WEFT_ROUTER__PORT", "2")
    monkeypatch.setenv("WEFT_ROUTER__ADMIN_PORT", "2")
    found = load_settings(router={"port": 3}).router
    assert (found.port, found.admin_port, found.policy) == (3, 2, "round_robin")


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        pytest.param("[router]\nprot = 1", ["router.prot", "router.port"], id="wrong key"),
        pytest.param("[rooter]\nport = 1", ["rooter", "router"], id="wrong section"),
        pytest.param("[router]\nport = 'x'", ["router.port", "'x'"], id="wrong type"),
        pytest.param("[router]\nport = 70000", ["router.port", "65535"], id="out of range"),
        pytest.param("[router", ["weft.toml", "TOML"], id="no TOML"),
    ],
)
def test_wrong_file_is_told_where_and_what(elsewhere: Path, toml: str, words: list[str]) -> None:
    (elsewhere / "weft.toml").write_text(toml)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert all(word in str(caught.value) for word in words), caught.value


def test_unknown_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_WORKER__ENGIN", "sim")
    with pytest.raises(SettingsError, match=r"WEFT_WORKER__ENGIN.*worker\.engine"):
        load_settings()


def test_missing_file_that_was_named_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_CONFIG", "gone.toml")
    with pytest.raises(SettingsError, match=r"gone\.toml"):
        load_settings()


def test_children_read_the_same_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    own = load_settings(router={"workers": ["a:1"], "port": 7}, worker={"model": "x.gguf", "sim": {"itl_ms": 3.5}})
    for name, value in to_environment(own).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == own


def test_page_is_made_from_the_tree() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.settings_page` and commit docs/settings.md"


@pytest.mark.parametrize(
    ("engine", "key"),
    [
        pytest.param({"api_key": "s3cret\n"}, "worker.openai.api_key", id="key with a line break"),
        pytest.param({"base_url": "http://me:s3cret@gpu:8000"}, "worker.openai.base_url", id="password in the address"),
        pytest.param({"base_url": "http://gpu:8000/v1?key=s3cret"}, "worker.openai.base_url", id="key in a query"),
        pytest.param({"headers": {"X-Key": "s3cret\r\nHost: b"}}, "worker.openai.headers", id="second header in one"),
        pytest.param({"headers": {"X-Key: s3cret\r\nA": "b"}}, "worker.openai.headers", id="second header in a name"),
        pytest.param({"headers": {"Content-Length": "5"}}, "worker.openai.headers", id="length of another body"),
        pytest.param({"headers": {"A": "s3cret", "a": "s3cret"}}, "worker.openai.headers", id="one header twice"),
    ],
)
def test_what_would_break_a_request_is_refused(engine: dict[str, object], key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(worker={"openai": engine})
    assert str(caught.value).startswith(f"{key}: ")


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"worker": {"openai": {"api_key": "s3cret\n"}}}, id="key"),
        pytest.param({"worker": {"openai": {"headers": {"X-Key": "s3cret\n"}}}}, id="header"),
        pytest.param({"worker": {"openai": {"headers": {"X-Key": ["s3cret"]}}}}, id="header of a wrong type"),
        pytest.param({"worker": {"openai": {"base_url": "http://me:s3cret@gpu-1:8000"}}}, id="password"),
        pytest.param({"worker": {"openai": {"base_url": "http://me:x/s3cret@gpu-1/v1"}}}, id="slash in a password"),
        pytest.param({"worker": {"openai": {"base_url": "http://me:x@s3cret@gpu-1"}}}, id="@ in a password"),
        pytest.param({"worker": {"openai": {"base_url": "http://gpu-1/v1?api_key=s3cret"}}}, id="query"),
        pytest.param({"worker": {"triton": {"url": ["me:s3cret@gpu-1:8001"]}}}, id="no scheme"),
        pytest.param({"router": {"port": "http://me:x/s3cret@gpu-1/v1"}}, id="password at another key"),
        pytest.param({"router": {"port": "me:x@s3cret@gpu-1:8001"}}, id="@ in a password at another key"),
        pytest.param({"router": {"port": "http://gpu-1/v1?api_key=s3cret"}}, id="query at another key"),
    ],
)
def test_no_message_repeats_a_secret(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(**wrong)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "worker",
    [
        pytest.param({"llamacpp": {"adapters": {"": "a.gguf"}}}, id="no name"),
        pytest.param({"llamacpp": {"adapters": {"a\nb": "a.gguf"}}}, id="two lines"),
        pytest.param({"triton": {"adapters": ["a"] * 257}}, id="too many"),
        pytest.param({"triton": {"adapters": ["a" * 257]}}, id="too long"),
    ],
)
def test_names_of_adapters_are_bounded(worker: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="adapters"):
        load_settings(worker=worker)


REMOTE = {"kind": "openai", "url": "http://gpu-1:8000/v1", "api_key": "s3cret"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({}, "allow_plain_text", id="key"),
        pytest.param({"kind": "tei"}, "allow_plain_text", id="another-kind"),
        pytest.param({"api_key": "", "url": "http://me:s3cret@gpu-1/v1"}, "url", id="key-in-url"),
        pytest.param({"api_key": "", "url": "http://me:x/s3cret@gpu-1/v1"}, "url", id="slash-in-password"),
        pytest.param({"api_key": "", "url": "http://me:x@s3cret@gpu-1"}, "url", id="at-in-password"),
        pytest.param({"api_key": "", "url": "me:s3cret@gpu-1:8001"}, "url", id="password-without-scheme"),
        pytest.param({"api_key": "", "url": "http://gpu-1/v1?api_key=s3cret"}, "url", id="query"),
        pytest.param({"api_key": "", "url": "http://gpu-1/v1#s3cret"}, "url", id="fragment"),
        pytest.param({"api_key": "", "url": "http://gpu-1:8000/models/me@2"}, "", id="at-in-path"),
        pytest.param({"api_key": "", "kind": "triton", "url": "dns:///gpu-1:8001"}, "", id="grpc"),
        pytest.param({"url": "http://127.0.0.1.example.org"}, "allow_plain_text", id="looks-like-loopback"),
        pytest.param({"api_key": "s3cret\n"}, "printable ASCII", id="line-break"),
        pytest.param({"allow_plain_text": True}, "", id="allowed"),
        pytest.param({"url": "https://gpu-1/v1"}, "", id="tls"),
        pytest.param({"url": "http://[::1]:8000"}, "", id="loopback"),
        pytest.param({"api_key": ""}, "", id="no-key"),
    ],
)
def test_an_embedding_servers_key_stays_private(change: dict[str, object], said: str) -> None:
    models = {"e5": REMOTE | change}
    if not said:
        assert load_settings(embedder={"models": models}).embedder.models["e5"].url
        return
    with pytest.raises(SettingsError) as caught:
        load_settings(embedder={"models": models})
    assert "embedder.models.e5" in str(caught.value)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        pytest.param({}, False, id="in-the-open"),
        pytest.param({"qdrant_url": "https://store-1:6333"}, True, id="tls"),
        pytest.param({"qdrant_url": "http://localhost:6333"}, True, id="loopback"),
        pytest.param({"qdrant_url": "store-1.example.org:6333"}, True, id="tls-without-scheme"),
        pytest.param({"qdrant_url": "HTTP://store-1:6333"}, False, id="in-the-open-in-capitals"),
        pytest.param({"qdrant_allow_plain_text": True}, True, id="allowed"),
        pytest.param({"qdrant_api_key": ""}, True, id="no-key"),
    ],
)
def test_a_qdrant_servers_key_stays_private(change: dict[str, object], passes: bool) -> None:
    store = {"store": "qdrant", "qdrant_url": "http://store-1:6333", "qdrant_api_key": "s3cret"} | change
    if passes:
        assert load_settings(retriever=store).retriever.qdrant_url.get_secret_value()
        return
    with pytest.raises(SettingsError, match="qdrant_allow_plain_text") as caught:
        load_settings(retriever=store)
    assert "s3cret" not in str(caught.value)
