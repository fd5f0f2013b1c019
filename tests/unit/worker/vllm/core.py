"""Stands in for vLLM's process: takes requests as the real one does, and brings the steps that a test says."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

END_MARK = 0


@dataclass
class FakeCore:
    """`refuses` is what the next request is refused with; `died` ends it."""

    requests: dict[str, SimpleNamespace] = field(default_factory=dict)
    aborted: list[str] = field(default_factory=list)
    refuses: Exception | None = None
    closed: bool = False
    steps: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    added: asyncio.Event = field(default_factory=asyncio.Event)

    def defaults(self) -> dict[str, Any]:
        return {}

    def prepare(
        self, name: str, ids: list[int], values: dict[str, Any], structure: dict[str, Any] | None, adapter: Any
    ) -> SimpleNamespace:
        if self.refuses is not None:
            raise self.refuses
        params = SimpleNamespace(all_stop_token_ids={END_MARK}, eos_token_id=END_MARK)
        return SimpleNamespace(name=name, ids=ids, values=values, sampling_params=params)

    async def add(self, request: SimpleNamespace) -> None:
        self.requests[request.name] = request
        self.added.set()

    async def wait_for(self, *names: str) -> None:
        """Returns once they have been handed over."""
        while not set(names) <= set(self.requests):
            self.added.clear()
            await self.added.wait()

    async def abort(self, names: list[str]) -> None:
        self.aborted += names

    async def outputs(self) -> Any:
        step = await self.steps.get()
        if isinstance(step, Exception):
            raise step
        return step

    async def close(self) -> None:
        self.closed = True

    def step(self, *tokens: tuple[str, list[int]], ends: dict[str, int] | None = None) -> None:
        """One step with new tokens; `ends` are vLLM's numbers for why requests are over."""
        outputs = [
            SimpleNamespace(
                request_id=name,
                new_token_ids=ids,
                new_logprobs=None,
                finish_reason=(ends or {}).get(name),
                prefill_stats=SimpleNamespace(num_cached_tokens=2),
            )
            for name, ids in tokens
        ]
        stats = SimpleNamespace(num_running_reqs=len(outputs), kv_cache_usage=0.5)
        self.steps.put_nowait(SimpleNamespace(outputs=outputs, scheduler_stats=stats))

    def die(self) -> None:
        """As a killed process does."""
        self.steps.put_nowait(RuntimeError("EngineCore encountered an issue"))
