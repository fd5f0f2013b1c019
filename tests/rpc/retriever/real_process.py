"""A service as a process of its own, for what only a process can show."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import psutil

from tests.conftest import ROOT


@asynccontextmanager
async def running(module: str, environment: Mapping[str, str]) -> AsyncIterator[psutil.Process]:
    """`python -m module`, killed at the end if it is still there."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "gen")])
    process = psutil.Popen(
        [sys.executable, "-m", module],
        env={**os.environ, **environment, "PYTHONPATH": path, "WEFT_SUPERVISED": str(os.getpid())},
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.is_running():
            process.kill()
        await asyncio.to_thread(process.wait, 20)
