"""Options of `weft up` as settings."""

from pathlib import Path

import pytest

from services.cli.overrides import Overrides
from services.cli.problem import UsageProblem


def test_a_gguf_file_implies_its_engine(tmp_path: Path) -> None:
    overrides = Overrides()
    overrides.put_model(None, tmp_path / "model.gguf")
    assert overrides.tree["worker"] == {"engine": "llamacpp", "model": tmp_path / "model.gguf"}


def test_vllm_takes_a_folder_or_a_name_on_the_hub(tmp_path: Path) -> None:
    folder, name = Overrides(), Overrides()
    folder.put_model("vllm", tmp_path)
    name.put_model("vllm", Path("org/model"))
    assert folder.tree["worker"] == {"engine": "vllm", "model": tmp_path}
    assert name.tree["worker"] == {"engine": "vllm", "vllm": {"model": "org/model"}}


@pytest.mark.parametrize(
    ("engine", "tree"),
    [
        ("openai", {"openai": {"base_url": "http://gpu:8000"}}),
        ("triton", {"triton": {"url": "http://gpu:8000"}}),
    ],
)
def test_an_upstream_goes_to_its_engine(engine: str, tree: dict[str, dict[str, str]]) -> None:
    overrides = Overrides()
    overrides.put_upstream(engine, "http://gpu:8000")
    assert overrides.tree["worker"] == tree


def test_an_engine_without_a_server_has_no_upstream() -> None:
    with pytest.raises(UsageProblem, match="openai or triton"):
        Overrides().put_upstream("sim", "http://gpu:8000")
    untouched = Overrides()
    untouched.put_upstream("sim", None)
    assert untouched.tree == {}


def test_a_store_s_url_chooses_the_store() -> None:
    overrides = Overrides()
    overrides.put_store(None, "postgresql://127.0.0.1/weft")
    assert overrides.tree["retriever"] == {"store": "postgres", "postgres_url": "postgresql://127.0.0.1/weft"}
    with pytest.raises(UsageProblem, match="exclude each other"):
        Overrides().put_store("http://127.0.0.1:6333", "postgresql://127.0.0.1/weft")
