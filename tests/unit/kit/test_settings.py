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
