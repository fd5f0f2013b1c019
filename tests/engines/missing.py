"""What an engine needs and this machine may not have."""

from pathlib import Path

from tests.conftest import ROOT


class Missing(Exception):
    """The engine cannot run here; the text says what is missing and how to get it."""


def environment(name: str, what: str) -> Path:
    """The interpreter of an environment beside the main one; raises Missing."""
    python = ROOT / name / "bin" / "python"
    if not python.exists():
        raise Missing(f"{name} is not there, so {what} cannot run: `make engines` builds it on x86-64 Linux")
    return python
