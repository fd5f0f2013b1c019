"""Two embedders behind Envoy, one of them killed under load: callers of /v1/embeddings notice nothing."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from openai import OpenAI

from tests.e2e.conftest import Mesh

pytestmark = pytest.mark.e2e

MODEL = "all-minilm-l6-v2"
CALLERS = 4
BEFORE, AFTER = 20, 60
TEXT = "What is kept in room {}?"


def test_a_killed_embedder_costs_no_caller_an_answer(tmp_path: Path) -> None:
    """No caller tries again by itself: max_retries is 0."""
    with Mesh(tmp_path, "--workers", "1", "--embedders", "2") as mesh:
        client = OpenAI(base_url=f"{mesh.url}/v1", api_key="none", max_retries=0, timeout=30)
        killed = mesh.pid("embedder-1")
        answered = threading.Semaphore(0)
        left = threading.Event()

        def caller(number: int) -> list[list[float]]:
            found = []
            # It goes on until well after the end of one of the two.
            while not left.is_set():
                answer = client.embeddings.create(model=MODEL, input=TEXT.format(f"{number}-{len(found)}"))
                found.append(answer.data[0].embedding)
                answered.release()
            return found

        def wait_for(answers: int) -> None:
            for _ in range(answers):
                while not answered.acquire(timeout=0.5):
                    # A caller that has ended before it was told to has met an error: its own is to be seen.
                    for ended in (one for one in running if one.done()):
                        ended.result()

        with ThreadPoolExecutor(CALLERS) as callers:
            running = [callers.submit(caller, number) for number in range(CALLERS)]
            try:
                wait_for(BEFORE)
                os.kill(killed, signal.SIGKILL)
                wait_for(AFTER)
            finally:
                left.set()
            vectors = [vector for found in running for vector in found.result()]
        assert len(vectors) >= BEFORE + AFTER
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-4)
        assert mesh.stop().rstrip().endswith("stopped")
