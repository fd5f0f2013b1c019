"""Every transcript says what the core says; `pytest tests/transcripts --rewrite` writes them anew, for a diff."""

from pathlib import Path

import pytest

from tests.transcripts.machine import replay

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(path: Path, request: pytest.FixtureRequest) -> None:
    written = path.read_text()
    said = replay(written)
    if request.config.getoption("--rewrite"):
        path.write_text(said)
    assert said == written
