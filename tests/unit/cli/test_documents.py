"""Which files an ingest finds."""

from pathlib import Path

import pytest

from services.cli.documents import find, shown
from services.cli.problem import UsageProblem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.md", "a.PDF", "code.py", ".hidden.md", "deep/er/c.txt", ".git/d.md", "deep/.venv/e.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path


def names(folder: Path, paths: list[Path]) -> list[str]:
    return [str(path.relative_to(folder)) for path in paths]


def test_folders_are_searched_for_known_endings(folder: Path) -> None:
    assert names(folder, find([folder])) == ["a.PDF", "b.md", "deep/er/c.txt"]


def test_a_named_file_is_taken_whatever_it_is_called(folder: Path) -> None:
    assert names(folder, find([folder / "code.py", folder / ".hidden.md"])) == ["code.py", ".hidden.md"]


def test_a_file_that_is_named_twice_is_taken_once(folder: Path) -> None:
    assert len(find([folder / "b.md", folder, folder / "deep" / ".." / "b.md"])) == 3


def test_every_missing_path_is_named_and_nothing_is_found(folder: Path) -> None:
    with pytest.raises(UsageProblem) as caught:
        find([folder / "b.md", folder / "no", folder / "nor"])
    assert caught.value.message.count("there is no such file or folder") == 2
    assert caught.value.exit_code == 2


def test_sources_are_shown_relative_to_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert shown(str(folder / "deep/er/c.txt")) == "deep/er/c.txt"
    assert shown("/elsewhere/x.md") == "/elsewhere/x.md"
    assert shown("https://example.com/x") == "https://example.com/x"
