"""`python -m loadtest.engines.models FOLDER`: tiny random models to load the mesh with.

For machines that no real model can be brought to.
"""

from pathlib import Path
from typing import Annotated

import typer

from loadtest.report import console as new_console
from tests.fakes.tiny_gguf import write_tiny_gguf
from tests.fakes.tiny_hf import write_tiny_hf


def main(folder: Annotated[Path, typer.Argument(help="Where they are written.")]) -> None:
    """Writes tiny.gguf (for llamacpp) and tiny/ (for vllm): a vocabulary of real words, and random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for written in (write_tiny_gguf(folder / "tiny.gguf"), write_tiny_hf(folder / "tiny")):
        new_console().print(str(written), highlight=False)


if __name__ == "__main__":
    typer.run(main)
