"""Measures the triton engine: `python -m tests.fakes.triton.measure`.

Bare is Triton's own client in this process, worker a worker's process behind one link; CPU is that of either.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import psutil
import tritonclient.grpc.aio as grpcclient

from services.worker.engines.triton.contract import Contract
from services.worker.engines.triton.wire import to_inputs
from tests.engines.client import linked
from tests.engines.process import EngineWorker, Launch
from tests.fakes.tiny_gguf import write_tiny_gguf
from tests.fakes.triton.server import MODEL, TritonServer, write_repository
from weft.worker.v1 import worker_pb2 as pb

TOKENS = 400
ROUNDS = 6
FLAGS = ("stream", "exclude_input_in_output", "return_finish_reason", "return_num_input_tokens")
CONTRACT = Contract(MODEL, "", frozenset((*FLAGS, "return_num_output_tokens")), frozenset(), False, 0)
PARAMETERS = json.dumps({"max_tokens": TOKENS, "temperature": 0.0, "ignore_eos": True})


async def bare(url: str, streams: int) -> tuple[int, float, float]:
    """Tokens, seconds, CPU seconds of this process."""
    async with grpcclient.InferenceServerClient(url) as client:

        async def one(number: int) -> int:
            async def requests() -> object:
                inputs = to_inputs(CONTRACT, f"What is kept in room {number}?", PARAMETERS, logprobs=False)
                yield {"model_name": MODEL, "inputs": inputs}

            count = 0
            async for result, error in client.stream_infer(requests()):
                assert error is None, error
                result.as_numpy("text_output")
                count += int(result.as_numpy("num_output_tokens")[0])
            return count

        await one(0)
        begun_s, cpu_s = time.perf_counter(), time.process_time()
        tokens = 0
        for _ in range(ROUNDS):
            tokens += sum(await asyncio.gather(*(one(number) for number in range(streams))))
        return tokens, time.perf_counter() - begun_s, time.process_time() - cpu_s


async def through(worker: EngineWorker, streams: int) -> tuple[int, float, float]:
    """Tokens, seconds, CPU seconds of the worker."""
    process = psutil.Process(worker.pid)

    def spent() -> float:
        return process.cpu_times().user + process.cpu_times().system

    async with linked(worker.address) as link:
        questions = [pb.Prompt(text=f"What is kept in room {number}?") for number in range(streams)]
        await link.answer(questions[0], max_tokens=TOKENS)
        begun_s, cpu_s, tokens = time.perf_counter(), spent(), 0
        for _ in range(ROUNDS):
            asked = [await link.ask(question, max_tokens=TOKENS) for question in questions]
            for request in asked:
                tokens += len((await link.whole(request)).ids)
        return tokens, time.perf_counter() - begun_s, spent() - cpu_s


def show(what: str, streams: int, measured: tuple[int, float, float]) -> None:
    tokens, wall_s, cpu_s = measured
    print(f"{what:6} {streams:3} streams {tokens / wall_s:7.0f} tokens/s {cpu_s / tokens * 1e6:6.0f} us CPU a token")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository = write_repository(folder / "models", write_tiny_gguf(folder / "tiny.gguf"))
        server = TritonServer(repository, folder / "triton.log")
        begun_s = time.perf_counter()
        server.start()
        try:
            server.wait_ready()
            print(f"Triton ready after {time.perf_counter() - begun_s:.1f} s")
            worker = EngineWorker(
                Launch(Path(sys.executable), {"engine": "triton", "triton": {"url": server.url}}), folder
            )
            begun_s = time.perf_counter()
            worker.ensure()
            try:
                print(f"worker ready after {time.perf_counter() - begun_s:.1f} s")
                for streams in (1, 16):
                    show("bare", streams, asyncio.run(bare(server.url, streams)))
                    show("worker", streams, asyncio.run(through(worker, streams)))
            finally:
                worker.close()
        finally:
            server.close()


if __name__ == "__main__":
    main()
