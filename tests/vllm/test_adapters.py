"""LoRA adapters on the real vLLM: each answers in its own way, resumes exactly, and they run beside each other."""

import pytest

from tests.engines.client import EngineLink
from tests.vllm.conftest import ADAPTERS
from weft.worker.v1 import worker_pb2 as pb

pytestmark = pytest.mark.timeout(400)
PROMPT = pb.Prompt(text="What is kept in the harbour?")


async def test_adapters(link: EngineLink) -> None:
    assert tuple(link.hello.adapters) == ADAPTERS
    own = await link.answer(PROMPT, max_tokens=20)
    alone = [await link.answer(PROMPT, model=name, max_tokens=20) for name in ADAPTERS]
    assert len({own.text, *(whole.text for whole in alone)}) == 3
    requests = [await link.ask(PROMPT, model=name, max_tokens=20) for name in ("", *ADAPTERS)]
    together = [await link.whole(request) for request in requests]
    assert [whole.text for whole in together] == [own.text, *(whole.text for whole in alone)]
    for name, whole in zip(ADAPTERS, alone, strict=True):
        for count in (1, 7, 19):
            rest = await link.answer(PROMPT, model=name, resume=whole.ids[:count], max_tokens=20)
            assert whole.ids[:count] + rest.ids == whole.ids
