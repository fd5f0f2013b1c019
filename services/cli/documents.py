"""Finds the documents under files and folders, and reads them one at a time."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from services.cli.problem import UsageProblem

ENDINGS = (
    ".csv",
    ".docx",
    ".htm",
    ".html",
    ".json",
    ".jsonl",
    ".markdown",
    ".md",
    ".ndjson",
    ".pdf",
    ".rst",
    ".text",
    ".tsv",
    ".txt",
    ".xhtml",
)
# What tools put into folders, and nobody wants to find.
_TOOL_FOLDERS = frozenset({"node_modules", "__pycache__", "__MACOSX", "venv", "site-packages"})
_TOOL_FILES = frozenset({"package-lock.json", "composer.lock"})


def find(paths: Iterable[Path]) -> list[Path]:
    """Every named file, and the files with known ENDINGS under every named folder, each once, in order.

    Hidden files and folders and those of tools are left out, unless they were named. Links to folders are not
    followed. Raises UsageProblem that names each path which is not there.
    """
    paths = list(paths)
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise UsageProblem("\n".join(f"{path}: there is no such file or folder" for path in missing))
    found: dict[Path, None] = {}
    for path in paths:
        found.update(dict.fromkeys(map(_absolute, _under(path) if path.is_dir() else [path])))
    return list(found)


def is_sendable(path: Path) -> bool:
    """Whether its name is UTF-8, as texts of messages are; a file system holds other names too."""
    return not any("\ud800" <= sign <= "\udfff" for sign in str(path))


def _under(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _TOOL_FOLDERS)
        for name in sorted(files):
            if not name.startswith((".", "~$")) and name not in _TOOL_FILES and name.lower().endswith(ENDINGS):
                yield Path(here, name)


def _absolute(path: Path) -> Path:
    """The same file has the same source, and so the same id, from wherever it is named."""
    return path.resolve()


def shown(source: str) -> str:
    """A source as people know it: relative to the current folder where it lies in it."""
    path = Path(source)
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else source
