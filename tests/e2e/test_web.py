"""Web callers: every line of envoy/README.md, server-sent events, and the unmodified OpenAI client."""

import json
import re
import subprocess

import httpx
import openai
import pytest

from services.cli.doctor import where
from tests.conftest import ROOT
from tests.e2e.conftest import COMMAND_LIMIT_S, Mesh

pytestmark = pytest.mark.e2e


def documented_lines() -> list[str]:
    """The commands of envoy/README.md, in order."""
    return re.findall(r"```bash\n(.*?)```", (ROOT / "envoy" / "README.md").read_text(), re.DOTALL)


def test_every_documented_line_works(mesh: Mesh) -> None:
    lines = documented_lines()
    assert len(lines) > 20
    if where("grpcurl") is None:
        lines = [line for line in lines if not line.startswith("grpcurl")]
    failed = []
    for line in lines:
        command = line.replace("127.0.0.1:8080", mesh.target)
        command = re.sub(r"^curl ", "curl -sS --fail-with-body ", command)
        command = re.sub(r"^grpcurl ", f"{where('grpcurl')} ", command)
        ran = subprocess.run(
            ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
        )
        if ran.returncode or not ran.stdout:
            failed.append((line, ran.stdout, ran.stderr))
    assert failed == []


def method_of(line: str) -> str:
    """The HTTP method of a documented command."""
    named = re.search(r"-X ([A-Z]+)", line)
    return named.group(1) if named else "POST" if " -d " in line else "GET"


def _names(line: str, path: str) -> bool:
    """Whether the command's URL is this path, or goes on where the path does."""
    return re.search(re.escape(path) + ("" if path.endswith("/") else r"(?![\w/])"), line) is not None


def test_every_path_of_the_protos_is_documented() -> None:
    protos = "".join(path.read_text() for path in (ROOT / "proto" / "weft").rglob("*.proto"))
    paths = re.findall(r'(get|post|patch|delete): "([^"{]+)', protos)
    assert len(paths) >= 20
    documented = [(method_of(line), line) for line in documented_lines()]
    missing = [
        (method, path)
        for method, path in paths
        if not any(used == method.upper() and _names(line, path) for used, line in documented)
    ]
    assert missing == []


@pytest.fixture(scope="module")
def house(mesh: Mesh) -> str:
    """An index with one document."""
    text = "# Door\n\nThe key of the front door lies under the mat.\n\n# Garden\n\nThe roses are watered at noon."
    body = [{"index": "web", "document": {"document_id": "house", "source": "house.md", "text": text}}]
    response = httpx.post(f"{mesh.url}/v1/documents", json=body, timeout=30)
    assert '"STATUS_' in response.text
    assert "FAILED" not in response.text
    return "web"


def test_a_chat_streams_events_in_order_with_contiguous_indexes(mesh: Mesh, house: str) -> None:
    body = {"messages": [{"content": "Where is the key of the front door?"}], "retrieval": {"index": house}}
    events = []
    with httpx.stream("POST", f"{mesh.url}/v1/chat", json=body, timeout=30) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        events = [json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line]
    kinds = [next(iter(event)) for event in events if "progress" not in event]
    assert kinds[:2] == ["accepted", "passages"]
    assert kinds[-1] == "finished"
    assert set(kinds[2:-1]) == {"tokens"}
    expected, text = 0, ""
    for event in events:
        if tokens := event.get("tokens"):
            assert tokens.get("index", 0) == expected
            expected += len(tokens["token_ids"])
            text += tokens.get("text", "")
    assert "under the mat" in text
    assert "[1]" in text
    assert events[-1]["finished"]["usage"]["completion_tokens"] == expected


def test_an_answer_says_how_it_rests_on_its_documents(mesh: Mesh, house: str) -> None:
    body = {"messages": [{"role": "user", "content": "Where is the key?"}], "retrieval": {"index": house}}
    response = httpx.post(f"{mesh.url}/v1/chat", json=body, timeout=30)
    finished = json.loads(response.text.strip().rpartition("data: ")[2])["finished"]
    (citation,) = finished["grounding"]["citations"]
    assert (citation["number"], citation["valid"], citation["document_id"]) == (1, True, "house")
    assert finished["grounding"]["supported_share"] == 1


def test_nothing_found_is_an_answer_and_no_worker_is_asked(mesh: Mesh, house: str) -> None:
    nowhere = {"index": house, "filter": {"document_ids": ["none"]}}
    body = {"messages": [{"role": "user", "content": "Where is the key?"}], "retrieval": nowhere}
    response = httpx.post(f"{mesh.url}/v1/chat", json=body, timeout=30)
    events = [json.loads(part.removeprefix("data: ")) for part in response.text.strip().split("\n\n")]
    assert [next(iter(event)) for event in events] == ["accepted", "passages", "tokens", "finished"]
    assert "nothing relevant was found" in events[2]["tokens"]["text"]
    assert events[3]["finished"]["reason"] == "FINISH_REASON_NOTHING_FOUND"
    assert "worker_id" not in events[0]["accepted"]


def test_the_openai_client_reads_sources_and_grounding(mesh: Mesh, house: str) -> None:
    with openai.OpenAI(base_url=f"{mesh.url}/v1", api_key="none", max_retries=0) as client:
        found = client.chat.completions.create(
            model="reader",
            messages=[{"role": "user", "content": "Where is the key?"}],
            extra_body={"retrieval": {"index": house, "mode": "hybrid"}},
        )
    extra = (found.model_extra or {})["retrieval"]
    assert extra["sources"][0]["document_id"] == "house"
    assert extra["grounding"]["citations"][0]["valid"] is True


def test_the_openai_client_chats_streams_embeds_and_lists(mesh: Mesh) -> None:
    with openai.OpenAI(base_url=f"{mesh.url}/v1", api_key="none", max_retries=0) as client:
        (model,) = client.models.list().data
        assert client.models.retrieve(model.id).id == model.id
        whole = client.chat.completions.create(model=model.id, messages=[{"role": "user", "content": "Hello"}])
        chunks = list(
            client.chat.completions.create(
                model=model.id,
                messages=[{"role": "user", "content": "Hello"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        vectors = client.embeddings.create(model="all-minilm-l6-v2", input=["a key", "a door"]).data
        completion = client.completions.create(model=model.id, prompt="Hello", max_tokens=4)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert len(text) > 20
    assert chunks[-1].usage
    assert chunks[-1].usage == whole.usage
    assert [len(vector.embedding) for vector in vectors] == [384, 384]
    assert completion.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        pytest.param({"model": "nope"}, openai.NotFoundError, id="unknown model"),
        pytest.param({"temperature": 9}, openai.BadRequestError, id="wrong temperature"),
        pytest.param({"messages": []}, openai.BadRequestError, id="no message"),
    ],
)
def test_the_openai_client_raises_its_own_errors(
    mesh: Mesh, arguments: dict, kind: type[openai.APIStatusError]
) -> None:
    asked = {"model": "reader", "messages": [{"role": "user", "content": "Hello"}]} | arguments
    with (
        openai.OpenAI(base_url=f"{mesh.url}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(kind) as caught,
    ):
        client.chat.completions.create(**asked)
    assert len(caught.value.message) > 30


def test_metrics_count_chats(mesh: Mesh) -> None:
    text = httpx.get(f"{mesh.url}/metrics").text
    assert 'weft_rpc_calls_total{code="OK",method="/weft.router.v1.RouterService/' in text
