"""What the generator itself costs, and how late its loop is: whether it is the limit of what it measures."""

import asyncio
import resource
import time
from dataclasses import dataclass

from loadtest.load.histogram import Histogram

PROBE_S = 0.005
BUSY_SHARE = 0.85
LATE_P99_S = 0.005


def cpu_s() -> float:
    """CPU time of this process, kernel included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@dataclass(frozen=True, slots=True)
class OwnCost:
    """CPU seconds, the share of one core, and how late the loop was at moments that it did not choose."""

    cpu_s: float
    elapsed_s: float
    loop_late: Histogram

    @property
    def core_share(self) -> float:
        """1.0 is one whole core."""
        return self.cpu_s / self.elapsed_s if self.elapsed_s else 0.0

    def warnings(self, lag: Histogram) -> list[str]:
        """Why the figures may say more of the generator than of the mesh; empty where they do not."""
        found = []
        if self.core_share > BUSY_SHARE:
            found.append(f"the generator used {self.core_share:.0%} of its core: spread the load over several of them")
        if (late_s := self.loop_late.quantile_s(99.0)) > LATE_P99_S:
            found.append(
                f"the generator's loop was {late_s * 1e3:.1f} ms late at its 99th percentile: "
                "times below that are its own"
            )
        if (lag_s := lag.quantile_s(99.0)) > 10 * LATE_P99_S:
            found.append(f"requests left {lag_s * 1e3:.0f} ms after they were due at the 99th percentile")
        return found


class Probe:
    """Looks every few ms how late the loop is; `stop` ends it and gives the cost since `start`."""

    def __init__(self) -> None:
        self._late = Histogram()
        self._task: asyncio.Task[None] | None = None
        self._cpu_s = self._began_s = 0.0

    def start(self) -> None:
        """Begins to count."""
        self._cpu_s, self._began_s = cpu_s(), time.perf_counter()
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> OwnCost:
        """Ends the counting."""
        found = OwnCost(cpu_s() - self._cpu_s, time.perf_counter() - self._began_s, self._late)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        return found

    async def _watch(self) -> None:
        while True:
            due_s = time.perf_counter() + PROBE_S
            await asyncio.sleep(PROBE_S)
            # The loop's timers count whole ms, which is not lateness.
            self._late.record(max(0.0, time.perf_counter() - due_s - 0.001))
