"""Settings become vLLM's arguments, and what is wrong with them is said before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest

from services.kit.settings.engines.vllm import VllmSettings
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.vllm.arguments import adapters_of, engine_arguments, model_of, template_of
from services.worker.engines.vllm.failure import ModelError

KNOWN = {"model", "dtype", "enable_chunked_prefill", "max_num_seqs", "load_format", "max_loras"}


def settings(worker: dict[str, Any] | None = None, **vllm: Any) -> WorkerSettings:
    return WorkerSettings(engine="vllm", vllm=VllmSettings(**{"model": "org/model", **vllm}), **(worker or {}))


def test_settings_become_arguments() -> None:
    mine = settings({"max_running": 16, "context_tokens": 2048}, dtype="float32", extra={"load_format": "dummy"})
    found = engine_arguments(mine, KNOWN, "ipc:///tmp/x")
    assert found["model"] == "org/model"
    assert (found["max_num_seqs"], found["max_model_len"], found["dtype"]) == (16, 2048, "float32")
    assert found["load_format"] == "dummy"
    assert found["kv_events_config"]["endpoint"] == "ipc:///tmp/x"
    assert found["trust_remote_code"] is False
    assert found["tokenizer"] is None
    assert "enable_lora" not in found
    assert "kv_events_config" not in engine_arguments(mine, KNOWN, "")


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        pytest.param({"load_fromat": 1}, "did you mean `load_format`", id="misspelt"),
        pytest.param({"qqqqqq": 1}, "no such engine argument$", id="nothing-near"),
        pytest.param({"max_num_seqs": 1}, "worker.max_running", id="has-a-setting"),
        pytest.param({"logits_processors": []}, "rests on it", id="ours"),
    ],
)
def test_wrong_extra_arguments(extra: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        engine_arguments(settings(extra=extra), KNOWN, "")


def test_a_model_is_a_hub_name_or_a_folder(tmp_path: Path) -> None:
    assert model_of(settings()) == "org/model"
    assert model_of(settings({"model": tmp_path}, model="")) == str(tmp_path)
    with pytest.raises(ModelError, match="needs a model"):
        model_of(settings(model=""))
    with pytest.raises(ModelError, match="no such folder"):
        model_of(settings(model=str(tmp_path / "missing")))


def test_adapters(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    mine = settings(adapters=[f"pirate={tmp_path}"])
    assert adapters_of(mine) == {"pirate": str(tmp_path)}
    found = engine_arguments(mine, KNOWN, "")
    assert (found["enable_lora"], found["max_loras"], found["max_lora_rank"]) == (True, 2, 16)


@pytest.mark.parametrize(
    ("adapters", "says"),
    [
        pytest.param(["pirate"], "no name=folder", id="no-folder"),
        pytest.param(["pirate=/nowhere"], "adapter_config.json", id="no-adapter"),
    ],
)
def test_wrong_adapters(adapters: list[str], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        adapters_of(settings(adapters=adapters))


def test_an_adapter_needs_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="another name"):
        adapters_of(settings(adapters=[f"model={tmp_path}"]))


def test_a_chat_template_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="chat_template"):
        template_of(settings(chat_template=tmp_path / "missing"))
    assert template_of(settings()) is None
