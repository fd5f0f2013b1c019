"""`python -m loadtest.pick_cost`: processor time of a pick and of hashing a prompt, and memory of the prefix index."""

import random
import time
from collections.abc import Callable

import psutil
import typer
from rich.console import Console
from rich.table import Table

from services.router.core.chat import Chat, Message, Role
from services.router.core.pick import Refusal, Wanted
from services.router.core.placer import Need, Placer
from services.router.core.policies import POLICIES, Weights
from services.router.core.prefix import PrefixIndex, block_hashes
from services.router.core.table import WorkerTable
from services.router.core.worker import Hello, Load

FLEETS = (8, 64, 512)
PROMPT = Chat("model", (Message(Role.USER, "a" * 8000),), session_id="session")
WANTED = Wanted("model")


def best_us(work: Callable[[], object], times: int, rounds: int = 7) -> float:
    """Microseconds of processor time that one call takes, in the best of some rounds: others share the machine."""
    found = []
    for _ in range(rounds):
        begun_s = time.process_time()
        for _ in range(times):
            work()
        found.append((time.process_time() - begun_s) / times * 1e6)
    return min(found)


def placer(workers: int, policy: str) -> Placer:
    """A placer over so many busy workers, whose speeds are known."""
    table = WorkerTable(workers)
    own = Placer(table, policy, Weights(), random.Random(1))
    for number in range(workers):
        hello = Hello(f"w{number:03d}", "1", "model", "sim", 1 << 20, 0, 1 << 20)
        table.announce(hello.worker_id, f"{hello.worker_id}:1", 0.0)
        table.link_up(hello.worker_id, hello, 0.0)
        table.report(hello.worker_id, Load(running=3, queued_tokens=900, step_time_s=0.02))
    for row in table.rows:
        for tokens in (500, 1000):
            row.rates.prefilled(tokens, tokens / 5000, 0.0, own.speed_at_first)
    return own


def answer(own: Placer, need: Need) -> None:
    """All that placing does for one answer, without hashing."""
    placed = own.place(WANTED, need, 1.0)
    assert not isinstance(placed, Refusal)
    own.started(placed, 2000, 0)
    own.first_token(placed, 1.1)
    own.release(placed, finished=True, output_tokens=100)


def index_mb(blocks: int, workers: int, *, shared: bool) -> float:
    """Resident memory of an index of so many blocks in all, which every worker shares or none does."""
    rng, before = random.Random(1), psutil.Process().memory_info().rss
    index = PrefixIndex(blocks // workers)
    for _ in range(blocks // workers // 25):
        prompt = tuple(rng.getrandbits(64) for _ in range(25))
        for number in range(workers):
            index.store(f"w{number}", prompt)
            if not shared:
                prompt = tuple(rng.getrandbits(64) for _ in range(25))
    return float(psutil.Process().memory_info().rss - before) / 1e6


def main() -> None:
    """Prints the figures."""
    console = Console()
    memory = {shared: index_mb(1_000_000, 8, shared=shared) for shared in (False, True)}
    table = Table("policy", *[f"{count} workers" for count in FLEETS], title="µs of CPU to place and release an answer")
    for policy in POLICIES:
        costs = []
        for count in FLEETS:
            own = placer(count, policy)
            need = own.need(PROMPT)
            costs.append(best_us(lambda own=own, need=need: answer(own, need), max(20, 4000 // count)))  # type: ignore[misc] # the loop's own values
        table.add_row(policy, *[f"{cost:.0f}" for cost in costs])
    console.print(table)
    prompt = random.Random(1).randbytes(1 << 20)
    console.print(f"hashing a prompt: {best_us(lambda: block_hashes(prompt), 1) / 1024:.1f} µs a KB")
    console.print(
        f"a million blocks on 8 workers: {memory[False]:.0f} MB when all differ, {memory[True]:.0f} when all are shared"
    )


if __name__ == "__main__":
    typer.run(main)
