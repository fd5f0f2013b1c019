"""Wrong settings and wrong models end the start with a sentence that says what to set."""

from pathlib import Path

import pytest

from services.worker.engines.triton.client import NotThere
from services.worker.engines.triton.failures import TritonError
from tests.fakes.triton.server import TritonServer, free_port
from tests.unit.worker.triton.conftest import Opener, opened


async def check(server: TritonServer, kind: type[TritonError], *says: str, **settings: object) -> None:
    with pytest.raises(kind) as caught:
        async with opened(server, **{"ready_timeout_s": 0.0, **settings}):
            pass
    for words in says:
        assert words in caught.value.message


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param({"model": ""}, ("bare, damaged, once, slow, vllm_model", "worker.triton.model"), id="which"),
        pytest.param({"model": "nope"}, ("'nope'", "vllm_model"), id="unknown"),
        pytest.param({"model": "damaged"}, ("damaged", "Failed to init server"), id="does-not-load"),
        pytest.param({"version": "7"}, ("does not have its model vllm_model ready", "ready_timeout_s"), id="version"),
        pytest.param({"model": "once"}, ("not decoupled", "model_transaction_policy"), id="cannot-stream"),
        pytest.param({"url": f"127.0.0.1:{free_port()}"}, ("cannot be reached", "worker.triton.url"), id="nobody"),
        pytest.param({"url": "http://127.0.0.1:8000"}, ("host:port", "gRPC"), id="a-web-address"),
        pytest.param({"tokenizer": Path("/nowhere")}, ("/nowhere/tokenizer.json", "worker.triton"), id="no-tokenizer"),
        pytest.param({"chat_template": Path("/nowhere")}, ("/nowhere", "worker.triton.chat"), id="no-template"),
        pytest.param({"tls": True, "ca_file": Path("/nowhere")}, ("worker.triton.ca_file",), id="no-ca"),
        pytest.param({"cert_file": Path("/x")}, ("set worker.triton.tls",), id="certificate-without-tls"),
        pytest.param({"tls": True, "cert_file": Path("/x")}, ("go together",), id="certificate-without-key"),
        pytest.param(
            {"adapters": ["a", "vllm_model"]}, ("worker.triton.adapters", "worker.model_name"), id="adapter-like-model"
        ),
        pytest.param({"adapters": ["a"], "model_name": "a"}, ("'a'", "worker.model_name"), id="model-like-adapter"),
        pytest.param(
            {"url": "triton.example:8001", "headers": {"authorization": "x"}}, ("plain text",), id="secret-in-the-open"
        ),
        pytest.param(
            {"url": "127.0.0.1.invalid:8001", "headers": {"authorization": "x"}},
            ("plain text", "worker.triton.allow_plain_text"),
            id="looks-like-loopback",
        ),
        pytest.param(
            {"url": "triton.invalid:8001", "headers": {"authorization": "x"}, "allow_plain_text": True},
            ("cannot be reached",),
            id="allowed-in-the-open",
        ),
    ],
)
async def test_a_wrong_start(triton: TritonServer, settings: dict[str, object], says: tuple[str, ...]) -> None:
    await check(triton, TritonError, *says, **settings)


async def test_an_unknown_model_is_not_waited_for(triton: TritonServer) -> None:
    await check(triton, NotThere, "'nope'", model="nope", ready_timeout_s=600.0)


async def test_a_damaged_template_is_named(triton: TritonServer, tmp_path: Path) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text("{% for x in %}")
    await check(triton, TritonError, str(file), chat_template=file)


async def test_headers_are_sent(opener: Opener) -> None:
    """Over loopback they may go in plain text, and gRPC would refuse their capitals."""
    async with opener(headers={"Authorization": "Bearer x"}) as (engine, _):
        assert engine.about.model == "vllm_model"
