"""CPU that one text costs in the model alone, by length and batch, and how close int8 vectors are to fp32 ones.

    python -m loadtest.embed_cost

CPU time of this process, the lower quartile of the runs, so that a busy machine changes it little.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from loadtest.embed_bench import Texts
from services.embedder.models.minilm.load import load_minilm
from services.embedder.models.onnx.network import OnnxNetwork
from services.embedder.ports import Prepared

_SECONDS = 3.0
_CASES = ((30, 1), (30, 16), (250, 1), (250, 2))
_COMPARED_TEXTS = 60


def batch_of(texts: int, tokens: int) -> list[Prepared]:
    """Texts of exactly so many tokens, the special ones included."""
    random = np.random.default_rng(0)
    return [
        Prepared(tokens, truncated=False, ids=(101, *random.integers(1000, 28_000, tokens - 2).tolist(), 102))
        for _ in range(texts)
    ]


def cost_ms(network: OnnxNetwork, texts: int, tokens: int) -> float:
    """CPU milliseconds of each text of such a batch."""
    batch = batch_of(texts, tokens)
    found: list[float] = []
    network.embed(batch)
    end_s = time.monotonic() + _SECONDS
    while time.monotonic() < end_s or len(found) < 4:
        begun_s = time.process_time()
        network.embed(batch)
        found.append(time.process_time() - begun_s)
    return statistics.quantiles(found, n=4)[0] / texts * 1e3


async def run() -> None:
    """Prints a line for each precision and case."""
    with tempfile.TemporaryDirectory(prefix="weft-embed-cost-") as name:
        networks = {precision: await load_minilm(Path(name), precision) for precision in ("int8", "fp32")}
        for precision, network in networks.items():
            for tokens, texts in _CASES:
                cost = cost_ms(network, texts, tokens)
                print(f"{precision}  {tokens:4} tokens, {texts:2} a batch: {cost:6.2f} ms CPU a text")  # noqa: T201 - the report
        words = Texts(120)
        compared = networks["int8"].encode([words.next() for _ in range(_COMPARED_TEXTS)])
        cosines = (networks["int8"].embed(compared) * networks["fp32"].embed(compared)).sum(axis=1)
        print(f"cosine of int8 to fp32: mean {cosines.mean():.4f}, least {cosines.min():.4f}")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(run())
