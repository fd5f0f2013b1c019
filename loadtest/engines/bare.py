"""`python -m loadtest.engines.bare ENGINE MODEL STREAMS TOKENS`: an engine without a worker, as fast as it goes.

It runs in the engine's own environment and imports nothing of Weft. Prints one JSON object.
"""

import asyncio
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable

PROMPT = "What is kept in room {number} of the harbour, and who may see it?"


def _cpu_s() -> float:
    """This process and those that it waits for; running children are added by `_children_s`."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _children_s() -> float:
    """CPU time of every process below this one, from /proc."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(name)], used[int(name)] = int(fields[1]), (int(fields[11]) + int(fields[12])) * tick_s
    below, me = 0.0, os.getpid()
    for pid in parents:
        above = parents.get(pid, 0)
        while above and above != me:
            above = parents.get(above, 0)
        below += used[pid] if above == me else 0.0
    return below


def _measured(work: Callable[[], int]) -> dict[str, float]:
    cpu_s, began_s = _cpu_s() + _children_s(), time.perf_counter()
    tokens = work()
    elapsed_s = time.perf_counter() - began_s
    cpu_s = _cpu_s() + _children_s() - cpu_s
    return {"tokens": tokens, "tokens_per_s": tokens / elapsed_s, "cpu_us": cpu_s / max(1, tokens) * 1e6}


def llamacpp(model: str, streams: int, tokens: int) -> dict[str, float]:
    """xllamacpp's server object in process, a thread for each answer, exact as the worker is told to be."""
    import xllamacpp  # type: ignore[import-not-found,unused-ignore]  # where the environment has none

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_parallel, params.n_ctx, params.cpuparams.n_threads = max(8, streams), 1024 * max(8, streams), 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)

    def answer(number: int, counts: list[int], wanted: int) -> None:
        body = {"prompt": PROMPT.format(number=number), "max_tokens": wanted, "temperature": 0.0, "stream": True}
        body |= {"ignore_eos": True}

        def take(chunk: object) -> bool:
            # A chunk for each token, and one more that says why the answer ended.
            choices = chunk.get("choices") if isinstance(chunk, dict) else None
            counts[number] += bool(choices and choices[0].get("finish_reason") is None)
            return False

        server.handle_completions(body, take)

    def all_of(wanted: int) -> int:
        counts = [0] * streams
        threads = [threading.Thread(target=answer, args=(n, counts, wanted)) for n in range(streams)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts)

    all_of(8)
    return _measured(lambda: all_of(tokens))


def vllm(model: str, streams: int, tokens: int) -> dict[str, float]:
    """AsyncLLM in process, one task for each answer."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
    from vllm import SamplingParams  # type: ignore[import-not-found,unused-ignore]  # where the environment has none
    from vllm.engine.arg_utils import AsyncEngineArgs  # type: ignore[import-not-found,unused-ignore]  # likewise
    from vllm.sampling_params import RequestOutputKind  # type: ignore[import-not-found,unused-ignore]  # likewise
    from vllm.v1.engine.async_llm import AsyncLLM  # type: ignore[import-not-found,unused-ignore]  # likewise

    arguments = AsyncEngineArgs(
        model=model, dtype="float32", max_model_len=1024, max_num_seqs=max(8, streams), enforce_eager=True
    )

    async def run() -> dict[str, float]:
        engine = AsyncLLM.from_vllm_config(arguments.create_engine_config())

        async def answer(number: int, wanted: int, name: str) -> int:
            sampling = SamplingParams(
                temperature=0.0, max_tokens=wanted, ignore_eos=True, output_kind=RequestOutputKind.DELTA
            )
            count = 0
            async for out in engine.generate(PROMPT.format(number=number), sampling, request_id=f"{name}-{number}"):
                count += len(out.outputs[0].token_ids)
            return count

        async def all_of(wanted: int, name: str) -> int:
            return sum(await asyncio.gather(*(answer(n, wanted, name) for n in range(streams))))

        try:
            await all_of(8, "warm")
            cpu_s, began_s = _cpu_s() + _children_s(), time.perf_counter()
            count = await all_of(tokens, "run")
            elapsed_s = time.perf_counter() - began_s
            cpu_s = _cpu_s() + _children_s() - cpu_s
            return {"tokens": count, "tokens_per_s": count / elapsed_s, "cpu_us": cpu_s / max(1, count) * 1e6}
        finally:
            engine.shutdown()

    return asyncio.run(run())


ENGINES = {"llamacpp": llamacpp, "vllm": vllm}

if __name__ == "__main__":
    name, path, count, length = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    print(json.dumps(ENGINES[name](path, count, length)))  # noqa: T201 - this is its result
