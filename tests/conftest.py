"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data: TEST_DATA_DIR, or `shared/data` beside the checkout. Skips where it is missing."""
    folder = Path(os.environ.get("TEST_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: set TEST_DATA_DIR to a folder with scifact/, documents/ and traces/")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """Flags of our own."""
    parser.addoption("--rewrite", action="store_true", help="write transcripts anew from what the code says")
