"""Chat templates and tokenizers from files, as Hugging Face's own library reads them."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from services.kit.errors import InvalidArgument
from services.kit.settings.engines.triton import TritonSettings
from services.worker.engines.triton.failures import TritonError
from services.worker.engines.triton.prompts import read_prompts
from services.worker.engines.triton.template import ChatTemplate
from services.worker.engines.triton.tokenizer import read_tokenizer
from services.worker.ports import Conversation, Message, Rendered, Role

TALK = Conversation((Message(Role.SYSTEM, "Be <brief>."), Message(Role.USER, "hi")))


def rendered(source: str) -> str:
    template = ChatTemplate(source, {"bos_token": "<s>"}, where="here", today=lambda: datetime(2026, 11, 20))
    return template.render(TALK)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("{{ bos_token }}{{ messages[1]['content'] }}", "<s>hi", id="special-tokens"),
        pytest.param("{{ messages[0].content }}", "Be <brief>.", id="nothing-is-escaped"),
        pytest.param("{{ messages[0] | tojson }}", '{"role": "system", "content": "Be <brief>."}', id="tojson"),
        pytest.param("{{ strftime_now('%d %b %Y') }}", "20 Nov 2026", id="today"),
        pytest.param("{% if add_generation_prompt %}go{% endif %}", "go", id="generation-prompt"),
        pytest.param(
            "{% for m in messages %}\n {% if loop.first %}\n  {% continue %}\n {% endif %}\n{{ m.role }}\n{% endfor %}",
            "user\n",
            id="blocks-leave-no-blanks",
        ),
    ],
)
def test_templates(source: str, expected: str) -> None:
    assert rendered(source) == expected


@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param("{{ raise_exception('roles must alternate') }}", "roles must alternate", id="its-own-refusal"),
        pytest.param("{{ messages.append(1) }}", "append", id="changes-nothing"),
        pytest.param("{{ ''.__class__.__mro__ }}", "unsafe", id="sandboxed"),
        pytest.param("{{ 1 / 0 }}", "division", id="any-error"),
    ],
)
def test_what_a_template_refuses(source: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says) as caught:
        rendered(source)
    assert (caught.value.reason, caught.value.field) == ("TEMPLATE_REFUSED", "prompt.conversation")


def changed(folder: Path, target: Path, **changes: object) -> Path:
    """A copy of a tokenizer's folder with other entries in its configuration."""
    target.mkdir()
    (target / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (target / "tokenizer_config.json").write_text(json.dumps({**config, **changes}))
    return target


def test_a_folder(tiny_folder: Path) -> None:
    found = read_tokenizer(tiny_folder)
    assert (found.context_tokens, found.adds_bos) == (2048, False)
    assert found.special["bos_token"] == "<|bos|>"
    assert read_prompts(TritonSettings(tokenizer=tiny_folder)).text(TALK).endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("own: {{ messages[1].content }}", id="text"),
        pytest.param(
            [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "own: {{ messages[1].content }}"}],
            id="named",
        ),
    ],
)
def test_a_configurations_template(tiny_folder: Path, tmp_path: Path, template: object) -> None:
    folder = changed(tiny_folder, tmp_path / "t", chat_template=template)
    assert read_prompts(TritonSettings(tokenizer=folder)).text(TALK) == "own: hi"
    (folder / "chat_template.jinja").write_text("file: {{ messages[1].content }}")
    assert read_prompts(TritonSettings(tokenizer=folder)).text(TALK) == "file: hi"


async def test_bos_stands_once(tiny_folder: Path, tmp_path: Path) -> None:
    template = "{{ bos_token }}{{ messages[1].content }}"
    folder = changed(
        tiny_folder, tmp_path / "t", chat_template=template, bos_token={"content": "<|bos|>", "special": True}
    )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", 0)])
    tokenizer.save(str(folder / "tokenizer.json"))
    prompts = read_prompts(TritonSettings(tokenizer=folder))
    assert prompts.text(TALK) == "hi"
    assert await prompts.count("hi", 100) == len(tokenizer.encode("hi").ids)
    assert prompts.text(Rendered("<|bos|>hi")) == "<|bos|>hi", "what is rendered already stays as it is"


@pytest.mark.parametrize("content", ["", "{}", "no json"])
def test_no_tokenizer(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TritonError, match="is no tokenizer"):
        read_tokenizer(tmp_path)
