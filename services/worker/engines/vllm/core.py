"""One life of vLLM's engine: started in a process of its own, fed with requests, and read step by step.

It uses vLLM's AsyncLLM for what prepares requests and for the engine's process, and leaves its output processor out:
that one detokenises, builds an object and wakes a task for each request and step, which is most of what vLLM's own
front end costs. Here each step is one message, taken as it comes.
"""

import asyncio
import os
from contextlib import suppress
from typing import Any

import psutil
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.inputs.engine import tokens_input
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.engine.exceptions import EngineDeadError

from services.worker.engines.vllm.failure import ModelError
from services.worker.engines.vllm.warden import end, family

# Nothing is kept that an orderly end would save, and vLLM waits for its own processes one after the other.
END_LIMIT_S = 2.0
WARM_UP_TOKENS = 2


def on_cpu() -> bool:
    """Whether this is vLLM's CPU build."""
    return bool(current_platform.is_cpu())


def known_arguments() -> frozenset[str]:
    """The names of vLLM's engine arguments."""
    return frozenset(AsyncEngineArgs.__dataclass_fields__)


class Core:
    """Made by `launch` on a thread; everything else happens on the event loop that `begin` is called on."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._tasks: Any = None
        self._sentinels: list[int] = []
        self._family: list[psutil.Process] = []
        self.config = llm.vllm_config
        self.tokenizer = llm.get_tokenizer()

    @classmethod
    def launch(cls, arguments: dict[str, Any]) -> "Core":
        """Blocks until the model is loaded. Raises ModelError where the arguments or the model cannot be used."""
        try:
            config = AsyncEngineArgs(**arguments).create_engine_config()
        except Exception as error:
            # Whatever is wrong with a model's folder or an argument, vLLM raises what it met.
            raise ModelError(f"vLLM refuses {arguments['model']}: {_first_lines(error)}") from error
        # A fork would take this process's threads' locks and open sockets along; at a restart gRPC's are among them.
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
        try:
            return cls(AsyncLLM.from_vllm_config(config))
        except Exception as error:
            raise ModelError(f"vLLM cannot load {arguments['model']}: {_first_lines(error)}") from error

    async def begin(self) -> None:
        """Generates once, so that whatever is compiled or allocated at the first request is behind it."""
        self._tasks = await self._llm.get_supported_tasks()
        self._watch()
        values = {"max_tokens": WARM_UP_TOKENS, "temperature": 0.0, "ignore_eos": True}
        await self.add(self.prepare("warm-up", [1], values, None, None))
        while not any(output.finished for output in (await self.outputs()).outputs):
            pass

    def _watch(self) -> None:
        """vLLM looks after its process a few times a second; the end of its process can be heard at once."""
        manager = self._llm.engine_core.resources.engine_manager
        processes = getattr(manager, "processes", ())
        self._family = family(process.pid for process in processes)
        loop = asyncio.get_running_loop()
        for process in processes:
            self._sentinels.append(process.sentinel)
            loop.add_reader(process.sentinel, self._died)

    def _died(self) -> None:
        self._unwatch()
        self._llm.engine_core.outputs_queue.put_nowait(EngineDeadError())

    def _unwatch(self) -> None:
        loop = asyncio.get_running_loop()
        for sentinel in self._sentinels:
            loop.remove_reader(sentinel)
        self._sentinels.clear()

    def defaults(self) -> dict[str, Any]:
        """What the model's generation_config.json says of sampling."""
        found: dict[str, Any] = self.config.model_config.get_diff_sampling_param()
        return found

    def prepare(
        self, name: str, ids: list[int], values: dict[str, Any], structure: dict[str, Any] | None, adapter: Any
    ) -> Any:
        """The request as vLLM takes it; see `params` for the values. Raises what vLLM raises where it is wrong."""
        params = SamplingParams(
            **values,
            structured_outputs=StructuredOutputsParams(**structure) if structure else None,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            skip_clone=True,
        )
        request = self._llm.input_processor.process_inputs(
            name, tokens_input(ids), params, supported_tasks=self._tasks, lora_request=adapter
        )
        request.external_req_id = name
        return request

    async def add(self, request: Any) -> None:
        """Hands it to the engine."""
        await self._llm.engine_core.add_request_async(request)

    async def abort(self, names: list[str]) -> None:
        """The engine stops work on them; an engine that is dead has done so."""
        with suppress(EngineDeadError):
            await self._llm.engine_core.abort_requests_async(names)

    async def outputs(self) -> Any:
        """The next step, as EngineCoreOutputs. Raises EngineDeadError once the engine is no more."""
        return await self._llm.engine_core.get_output_async()

    def detokenizer(self, request: Any) -> Any:
        """vLLM's own, for tokenizers whose tokens have no bytes of their own; `decode_next` gives the text."""
        return IncrementalDetokenizer.from_new_request(self.tokenizer, request)

    async def close(self) -> None:
        """Ends the engine's process and all that it started."""
        self._unwatch()
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        try:
            self._llm.shutdown(END_LIMIT_S)
        finally:
            end(self._family)


def to_adapters(folders: dict[str, str]) -> dict[str, Any]:
    """vLLM's requests for adapters, by name."""
    return {name: LoRARequest(name, at, folder) for at, (name, folder) in enumerate(folders.items(), 1)}


def _first_lines(error: BaseException, limit: int = 600) -> str:
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return text[:limit] or type(error).__name__
