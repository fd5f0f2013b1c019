"""A tiny model, written once for all tests of a session."""

from pathlib import Path

import pytest

from tests.fakes.tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 1.5 MB with a real tokenizer and a ChatML template."""
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")
