"""Each engine's worker, started once for all cases, and a link to it for each of them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engines.client import EngineLink, linked
from tests.engines.engines import ENGINES, EngineCase
from tests.engines.missing import Missing
from tests.engines.process import EngineWorker

HERE = Path(__file__).parent
CASE_LIMIT_S = 120


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The limit of time is for a case, and not for the start of the engine that the first one waits for."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.timeout(CASE_LIMIT_S, func_only=True))


@dataclass(frozen=True, slots=True)
class Running:
    """An engine and the worker that runs it."""

    case: EngineCase
    worker: EngineWorker


@pytest.fixture(scope="session", params=ENGINES, ids=lambda case: case.name)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    case: EngineCase = request.param
    folder = tmp_path_factory.mktemp(case.name)
    with ExitStack() as stack:
        try:
            launch = stack.enter_context(case.open(folder))
        except Missing as missing:
            pytest.skip(str(missing))
        worker = EngineWorker(launch, folder)
        stack.callback(worker.close)
        yield Running(case, worker)


@pytest.fixture
def case(running: Running) -> EngineCase:
    """What to ask."""
    return running.case


@pytest.fixture
def worker(running: Running) -> EngineWorker:
    """Serves, whatever the case before this one did to it."""
    running.worker.ensure()
    return running.worker


@pytest.fixture
async def link(worker: EngineWorker) -> AsyncIterator[EngineLink]:
    """Of this case alone; nothing runs in the engine when the case begins."""
    async with linked(worker.address) as found:
        await found.idle()
        yield found
