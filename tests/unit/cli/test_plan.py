"""Which processes make a mesh."""

import itertools
import json

import pytest

from services.cli.plan import Mesh, Process, plan, reach
from services.cli.sim_speed import sim_speeds
from services.kit.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))


def mesh_of(settings: Settings, workers: int = 2, sim_speeds: tuple[float, ...] = ()) -> Mesh:
    numbers = itertools.count(40_000)
    return plan(settings, workers, lambda: next(numbers), ("envoy",), sim_speeds)


def by_name(mesh: Mesh) -> dict[str, Process]:
    return {process.name: process for process in mesh.processes}


def test_the_defaults_start_six_processes() -> None:
    mesh = mesh_of(load_settings())
    addresses = {process.name: (process.address, process.ports[1].number) for process in mesh.processes}
    assert addresses == {
        "embedder": ("127.0.0.1:50071", 50171),
        "retriever": ("127.0.0.1:50081", 50181),
        "router": ("127.0.0.1:50051", 50151),
        "worker-0": ("127.0.0.1:50061", 50161),
        "worker-1": ("127.0.0.1:50062", 50162),
        "envoy": ("127.0.0.1:8080", 9901),
    }
    assert mesh.workers == ("127.0.0.1:50061", "127.0.0.1:50062")


def test_many_workers_leave_out_ports_of_other_services() -> None:
    mesh = mesh_of(load_settings(), workers=40)
    ports = [port.number for process in mesh.processes for port in process.ports]
    assert len(ports) == len(set(ports)) == 2 * 44 + 1


def test_port_zero_becomes_a_free_port_that_every_other_service_knows() -> None:
    zero = {"port": 0, "admin_port": 0}
    mesh = mesh_of(load_settings(envoy=zero, router=zero, retriever=zero, embedder=zero, worker=zero))
    processes = by_name(mesh)
    ports = [port.number for process in mesh.processes for port in process.ports]
    assert len(set(ports)) == 13
    assert min(ports) >= 40_000
    environment = processes["worker-1"].environment
    assert environment["WEFT_WORKER__ROUTERS"] == f'["{processes["router"].address}"]'
    assert environment["WEFT_RETRIEVER__EMBEDDER"] == processes["embedder"].address
    assert environment["WEFT_ROUTER__RETRIEVER"] == processes["retriever"].address
    assert environment["WEFT_WORKER__WORKER_ID"] == "worker-1"


def test_one_worker_keeps_its_own_id() -> None:
    mesh = mesh_of(load_settings(worker={"worker_id": "gpu"}), workers=1)
    assert "gpu" in by_name(mesh)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param([], ("0.5", "0.5"), id="none leaves the settings alone"),
        pytest.param(["2"], ("2.0", "2.0"), id="one for all"),
        pytest.param(["1,0.25"], ("1.0", "0.25"), id="a list"),
        pytest.param(["1", "0.25"], ("1.0", "0.25"), id="the option twice"),
    ],
)
def test_simulated_workers_may_differ_in_speed(given: list[str], expected: tuple[str, str]) -> None:
    mesh = mesh_of(load_settings(worker={"sim": {"speed": 0.5}}), sim_speeds=sim_speeds(given, 2))
    found = by_name(mesh)
    assert tuple(found[f"worker-{number}"].environment["WEFT_WORKER__SIM__SPEED"] for number in (0, 1)) == expected


def test_services_get_an_absolute_data_folder() -> None:
    environment = by_name(mesh_of(load_settings()))["retriever"].environment
    assert environment["WEFT_DATA_DIR"].startswith("/")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("127.0.0.1", "127.0.0.1:1", id="loopback"),
        pytest.param("0.0.0.0", "127.0.0.1:1", id="any host is reached on loopback"),
        pytest.param("::", "[::1]:1", id="any IPv6 host"),
        pytest.param("mesh.example", "mesh.example:1", id="a name stays"),
    ],
)
def test_reach(host: str, expected: str) -> None:
    assert reach(host, 1) == expected


def test_embedders_take_the_ports_after_the_first_and_the_retriever_knows_all() -> None:
    taken = iter(range(20_000, 21_000))
    mesh = plan(load_settings(), 1, lambda: next(taken), ("envoy",), embedders=3)
    names = [process.name for process in mesh.processes if process.name.startswith("embedder")]
    assert names == ["embedder", "embedder-1", "embedder-2"]
    assert mesh.embedders == ("127.0.0.1:50071", "127.0.0.1:50072", "127.0.0.1:50073")
    processes = {process.name: process for process in mesh.processes}
    assert processes["embedder-2"].environment["WEFT_EMBEDDER__ADMIN_PORT"] == "50173"
    assert json.loads(processes["retriever"].environment["WEFT_RETRIEVER__EMBEDDERS"]) == list(mesh.embedders)


def test_workers_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cli.plan.cores", lambda: 8)
    names = ("WEFT_WORKER__LLAMACPP__THREADS", "WEFT_WORKER__VLLM__CPU_THREADS")

    def threads(workers: int, **worker: object) -> list[str]:
        environment = by_name(mesh_of(load_settings(worker=worker), workers))["worker-0"].environment
        return [environment[name] for name in names]

    assert threads(1) == ["0", "0"]
    assert threads(3) == ["2", "2"]
    assert threads(20) == ["1", "1"]
    assert threads(2, llamacpp={"threads": 7}) == ["7", "4"]
