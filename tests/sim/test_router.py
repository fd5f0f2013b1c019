"""Thousands of answers in simulated time, while workers die, hang, refuse and come back by a seed."""

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest

from services.kit.errors import WeftError
from services.kit.settings.router import FailoverSettings, QueueSettings
from services.router.core.chat import Chat, FinishReason, Message, Priority, Role, Sampling
from services.router.events import Accepted, Failed, Finished, Moved
from tests.sim.loop import simulate
from tests.sim.world import ANSWER_TOKENS_LIMIT, MODEL, Reader, SimWorker, TextReader, TextWorker, World

ANSWERS = 1500
QUEUE = QueueSettings(requests=60, tokens=60_000, wait_s=8.0, in_worker=2)
FAILOVER = FailoverSettings(stall_s=0.6, silent_s=0.3, recover_wait_s=20.0, attempts=8, retry_per_s=1000.0)

FAILURES = {
    # What may end an answer that was let in, when three workers do twice what they can and all break now and then.
    *("WORKER_LOST", "WORKER_STALLED", "ENGINE_BROKEN", "WORKERS_SUSPECT", "WORKERS_AWAY"),
    *("DEADLINE", "QUEUE_TIMEOUT", "QUEUE_FULL", "DISPLACED"),
}


@dataclass
class Told:
    """What became of all requests."""

    finished: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    moved: int = 0
    late: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


async def ask(world: World, kind: type[Reader], chance: random.Random, number: int, told: Told) -> None:
    """One client: a random prompt, length, deadline and temper; some leave, some cancel."""
    prompt = f"request {number} " + "x" * chance.randrange(300)
    length = chance.randint(1, ANSWER_TOKENS_LIMIT)
    chat = Chat(
        MODEL,
        (Message(Role.USER, prompt),),
        Sampling(max_tokens=length),
        tenant=chance.choice("abc"),
        priority=chance.choice([Priority.BATCH, Priority.NORMAL, Priority.INTERACTIVE]),
    )
    reader = kind(chat, world.now)
    answer = world.answer(str(number), reader)
    deadline_s = world.now() + chance.choice([0.5, 5.0, 60.0])
    leaves_s = chance.choice([None, None, None, chance.random() * 2])
    task = asyncio.ensure_future(world.dispatch.run(chat, answer, deadline_s))
    if leaves_s is not None:
        world_loop = asyncio.get_running_loop()
        world_loop.call_later(leaves_s, task.cancel if number % 2 else answer.cancel)
    try:
        await task
    except WeftError as error:
        told.refused[error.reason] += 1
        if reader.events:
            told.wrong.append(f"{number}: a status after an event")
        return
    except asyncio.CancelledError:
        return
    finally:
        if world.now() > deadline_s + 0.001:
            told.late.append(f"{number}: {world.now() - deadline_s:.3f} s late")
    check(reader, length, number, told)


def check(reader: Reader, length: int, number: int, told: Told) -> None:
    """The events of an answer that was accepted, in order and complete."""
    kinds = [type(event) for event in reader.events]
    if kinds[0] is not Accepted or kinds.count(Accepted) != 1:
        told.wrong.append(f"{number}: {kinds}")
    told.moved += kinds.count(Moved)
    last = reader.events[-1]
    if isinstance(last, Failed):
        told.failed[last.error.reason] += 1
    elif isinstance(last, Finished):
        told.finished[last.reason.value] += 1
        if last.usage.completion_tokens != reader.tokens_seen:
            told.wrong.append(f"{number}: {last.usage} after {reader.tokens_seen} tokens")
        if last.reason is FinishReason.LENGTH and reader.tokens_seen != length:
            told.wrong.append(f"{number}: {reader.tokens_seen} of {length} tokens")
    else:
        told.wrong.append(f"{number}: ends with {last}")


async def break_things(world: World, chance: random.Random) -> None:
    """Every now and then a worker dies, hangs, breaks or loses its link, and later comes back; never all for long."""
    workers = list(world.fleet.workers.values())
    while True:
        await asyncio.sleep(chance.expovariate(0.7))
        worker = chance.choice(workers)
        fault = chance.choice(["die", "hang", "cut", "break"])
        if fault == "hang":
            worker.hung = True
        elif fault == "break":
            world.fleet.break_engine(worker)
        else:
            world.fleet.down(worker)
        away_s = chance.uniform(0.1, 4.0)
        await asyncio.sleep(away_s)
        if fault == "hang":
            worker.hung = False
        elif fault == "break":
            worker.broken = ""
        else:
            world.fleet.up(worker, fresh=fault == "die")


async def storm(
    seed: int, policy: str, worker: type[SimWorker] = SimWorker, reader: type[Reader] = Reader
) -> tuple[World, Told]:
    """A run: twice what three workers can do, in bursts, while things break."""
    chance = random.Random(seed)
    workers = [worker(f"w{n}", itl_s=0.02 * (1 + n), max_running=6, max_waiting=4) for n in range(3)]
    world, told = World(workers, QUEUE, FAILOVER, seed, policy), Told()
    breaking = asyncio.ensure_future(break_things(world, chance))
    clients = []
    for number in range(ANSWERS):
        await asyncio.sleep(chance.expovariate(25.0))
        clients.append(asyncio.ensure_future(ask(world, reader, chance, number, told)))
        assert len(world.room.queue(MODEL)) <= QUEUE.requests
        assert world.room.queue(MODEL).tokens <= QUEUE.tokens
    await asyncio.gather(*clients)
    breaking.cancel()
    await asyncio.sleep(1.0)
    await world.close()
    return world, told


@pytest.mark.parametrize("policy", ["least_loaded", "prefix_aware"])
@pytest.mark.parametrize("seed", range(2))
def test_every_token_once_whatever_breaks(seed: int, policy: str) -> None:
    proved(*simulate(storm(seed, policy)), f"seed {seed} {policy}")


def test_no_text_twice_and_none_missing_where_workers_know_text_alone() -> None:
    proved(*simulate(storm(3, "least_loaded", TextWorker, TextReader)), "seed 3 of text")


def proved(world: World, told: Told, run: str) -> None:
    """What holds after every storm."""
    print(f"{run}: {told}")
    assert not told.wrong
    assert not told.late
    assert told.moved > 10, "the storm was too mild to prove anything"
    assert told.finished["length"] > ANSWERS / 8
    assert set(told.failed) <= FAILURES
    for row in world.table:
        assert row.in_flight == 0, f"a reservation leaked on {row}"
    for worker in world.fleet.workers.values():
        assert worker.under_way == 0, f"{worker.worker_id} still works on something"
        assert worker.peak <= worker.max_running + worker.max_waiting
    assert len(world.room.queue(MODEL)) == 0


async def shares(seed: int) -> dict[str, int]:
    """Tokens served to three tenants that always have work waiting, one of them with far larger requests."""
    chance = random.Random(seed)
    workers = [SimWorker("w0", itl_s=0.01, max_running=4, max_waiting=0)]
    queue = QueueSettings(requests=300, tokens=10**7, wait_s=1e6, in_worker=0)
    world = World(workers, queue, FAILOVER, seed, "least_loaded")
    served: dict[str, int] = defaultdict(int)
    largest = {"small": 10, "middle": 30, "large": 60}

    async def client(tenant: str) -> None:
        while True:
            chat = Chat(
                MODEL,
                (Message(Role.USER, "x" * 40),),
                Sampling(max_tokens=chance.randint(1, largest[tenant])),
                tenant=tenant,
            )
            reader = Reader(chat, world.now)
            await world.dispatch.run(chat, world.answer(tenant, reader), world.now() + 1e6)
            served[tenant] += 40 + reader.tokens_seen

    clients = [asyncio.ensure_future(client(tenant)) for tenant in largest for _ in range(20)]
    await asyncio.sleep(60.0)
    for task in clients:
        task.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    await world.close()
    return served


@pytest.mark.parametrize("seed", range(2))
def test_tenants_get_equal_shares_whatever_the_size_of_their_requests(seed: int) -> None:
    served = simulate(shares(seed))
    # Within two of the largest requests by the queue's own bound, and the four that run at once.
    bound = (2 + 4) * (40 + 60)
    assert max(served.values()) - min(served.values()) <= bound, dict(served)
    assert min(served.values()) > 3 * bound, "too short a run to tell"
