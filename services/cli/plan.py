"""Decides which processes make a mesh: their ports, commands and settings. It starts and checks nothing."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.kit.cores import cores
from services.kit.settings import Settings, to_environment

ADMIN_OFFSET = 100
MAX_WORKERS = 64
MAX_EMBEDDERS = 16
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - read here, never bound.


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a process listens on, and the option that changes it."""

    host: str
    number: int
    option: str


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the mesh. `ports`: the main one, the admin port, others; `environment`: the WEFT_ variables."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    ports: tuple[Port, ...]

    @property
    def address(self) -> str:
        """host:port at which others on this machine reach it."""
        return reach(self.ports[0].host, self.ports[0].number)


@dataclass(frozen=True, slots=True)
class Mesh:
    """What `weft up` runs. `settings` are those of all its processes, apart from each worker's own."""

    settings: Settings
    processes: tuple[Process, ...]
    workers: tuple[str, ...]
    embedders: tuple[str, ...]
    target: str
    envoy_file: Path


def reach(host: str, port: int) -> str:
    """host:port to connect to for something that listens on `host`."""
    host = _ANY_HOST.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plan(
    settings: Settings,
    workers: int,
    take_port: Callable[[], int],
    envoy: tuple[str, ...],
    sim_speeds: Sequence[float] = (),
    embedders: int = 1,
) -> Mesh:
    """The mesh of these settings with 1 to MAX_WORKERS workers. A port of 0 becomes one from `take_port`.

    Workers and embedders listen on their port and those after it, leaving out ports that another service has. `envoy`
    is the command that starts Envoy, without its arguments. `sim_speeds` has one for each worker, or is empty.
    """
    settings = _with_ports(settings, take_port)
    taken = {
        *(port.number for name in ("embedder", "retriever", "router") for port in _service(settings, name).ports),
        *(settings.envoy.port, settings.envoy.admin_port),
    }
    replicas = list(_embedders(settings, embedders, taken))
    settings = _with_addresses(settings, replicas)
    services = [*(_embedder(settings, *replica) for replica in replicas)]
    services += [_service(settings, name) for name in ("retriever", "router")]
    fleet = list(_fleet(settings, workers, take_port, taken, sim_speeds))
    front = _envoy(settings, envoy)
    return Mesh(
        settings=settings,
        processes=(*services, *fleet, front),
        workers=tuple(worker.address for worker in fleet),
        embedders=tuple(process.address for process in services[: len(replicas)]),
        target=front.address,
        envoy_file=envoy_file(settings),
    )


def envoy_file(settings: Settings) -> Path:
    """Where the rendered configuration of Envoy is kept."""
    return settings.data_dir / "run" / "envoy.yaml"


def _with_ports(settings: Settings, take_port: Callable[[], int]) -> Settings:
    update = {
        name: section.model_copy(
            update={key: getattr(section, key) or take_port() for key in ("port", "admin_port") if name != "worker"}
        )
        for name, section in _sections(settings)
    }
    lane_port = update["router"].lane_port or take_port()
    update["router"] = update["router"].model_copy(update={"lane_port": lane_port})
    return settings.model_copy(update=update)


def _sections(settings: Settings) -> Iterable[tuple[str, Any]]:
    return ((name, getattr(settings, name)) for name in ("envoy", "router", "retriever", "embedder"))


def _embedders(settings: Settings, count: int, taken: set[int]) -> Iterable[tuple[int, int, int]]:
    """Number, port and admin port of each embedder; the first has those of the settings."""
    own = settings.embedder
    yield 0, own.port, own.admin_port
    for number in range(1, count):
        yield number, _next(own.port, taken), _next(own.admin_port, taken)


def _embedder(settings: Settings, number: int, port: int, admin_port: int) -> Process:
    own = settings.embedder.model_copy(update={"port": port, "admin_port": admin_port})
    found = _service(settings.model_copy(update={"embedder": own}), "embedder")
    return replace(found, name=f"embedder-{number}") if number else found


def _with_addresses(settings: Settings, replicas: Sequence[tuple[int, int, int]]) -> Settings:
    """Every service is told where the others of this mesh are."""
    embedders = [reach(settings.embedder.host, port) for _, port, _ in replicas]
    retriever = reach(settings.retriever.host, settings.retriever.port)
    router = reach(settings.router.host, settings.router.port)
    return settings.model_copy(
        update={
            "data_dir": settings.data_dir.absolute(),
            "retriever": settings.retriever.model_copy(update={"embedder": embedders[0], "embedders": embedders}),
            "router": settings.router.model_copy(update={"retriever": retriever}),
            "worker": settings.worker.model_copy(update={"routers": [router]}),
        }
    )


def _python(module: str, interpreter: Path | None = None) -> tuple[str, ...]:
    """Runs an installed module; -P keeps a folder named `services` in the current one from taking its place."""
    return (str(interpreter or sys.executable), "-P", "-m", module)


def _service(settings: Settings, name: str) -> Process:
    section = getattr(settings, name)
    lane = (Port(section.host, section.lane_port, "--lane-port"),) if name == "router" and section.lane else ()
    return Process(
        name=name,
        command=_python(f"services.{name}"),
        environment=to_environment(settings),
        ports=(
            Port(section.host, section.port, f"--{name}-port"),
            Port(section.host, section.admin_port, f"--{name}-port (this is its admin port, {ADMIN_OFFSET} above)"),
            *lane,
        ),
    )


def _fleet(
    settings: Settings, workers: int, take_port: Callable[[], int], taken: set[int], sim_speeds: Sequence[float]
) -> Iterable[Process]:
    port, admin_port = settings.worker.port, settings.worker.admin_port
    settings = _with_threads(settings, workers)
    for number in range(workers):
        sim = settings.worker.sim
        own = {
            "sim": sim.model_copy(update={"speed": sim_speeds[number]}) if sim_speeds else sim,
            "worker_id": f"worker-{number}" if workers > 1 else settings.worker.worker_id,
            "port": _next(port, taken) if port else take_port(),
            "admin_port": _next(admin_port, taken) if admin_port else take_port(),
        }
        worker = settings.worker.model_copy(update=own)
        option = "--worker-port"
        yield Process(
            name=worker.worker_id,
            command=_python("services.worker", worker.python),
            environment=to_environment(settings.model_copy(update={"worker": worker})),
            ports=(
                Port(worker.host, worker.port, option),
                Port(worker.host, worker.admin_port, f"{option} (this is its admin port, {ADMIN_OFFSET} above)"),
            ),
        )


def _with_threads(settings: Settings, workers: int) -> Settings:
    """Workers of one machine share its cores: each with a thread for all of them would wait for the others."""
    if workers < 2:
        return settings
    share = max(1, cores() // workers)
    own = settings.worker
    update = {
        "llamacpp": own.llamacpp.model_copy(update={"threads": own.llamacpp.threads or share}),
        "vllm": own.vllm.model_copy(update={"cpu_threads": own.vllm.cpu_threads or share}),
    }
    return settings.model_copy(update={"worker": own.model_copy(update=update)})


def _next(first: int, taken: set[int]) -> int:
    """The first number from `first` that is not taken; it is taken then."""
    number = first
    while number in taken:
        number += 1
    taken.add(number)
    return number


def _envoy(settings: Settings, command: tuple[str, ...]) -> Process:
    arguments = (
        *("--config-path", str(envoy_file(settings))),
        *("--concurrency", str(settings.envoy.concurrency)),
        *("--log-level", "warning"),
        # Two meshes on one machine must not share memory.
        "--disable-hot-restart",
    )
    return Process(
        name="envoy",
        command=(*command, *arguments),
        environment={},
        ports=(
            Port(settings.envoy.host, settings.envoy.port, "--http-port"),
            Port("127.0.0.1", settings.envoy.admin_port, "--envoy-admin-port"),
        ),
    )
