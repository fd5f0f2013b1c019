"""`weft up`: the whole mesh on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli import consoles
from services.cli.checks import check_sim_options
from services.cli.group import run_async
from services.cli.overrides import Overrides
from services.cli.plan import MAX_EMBEDDERS, MAX_WORKERS, Mesh
from services.cli.pulled import find, looks_like_name
from services.cli.run import prepare, run
from services.cli.screen import screen_for
from services.cli.sim_speed import sim_speeds
from services.kit.clock import monotonic_s
from services.kit.settings import load_settings

READY_LIMIT_S = 300.0

Workers = Annotated[int, typer.Option(min=0, max=MAX_WORKERS, help="Workers to start; 0 where they run elsewhere.")]
Embedders = Annotated[
    int, typer.Option(min=1, max=MAX_EMBEDDERS, help="Embedders to start; texts are balanced between them.")
]
Engine = Annotated[
    str | None,
    typer.Option(help="What generates: reader, sim, llamacpp, vllm, triton or openai.", show_default="reader"),
]
Model = Annotated[
    Path | None,
    typer.Option(
        help="The model's file or folder, or its name: as in `weft models list` for llamacpp, on the hub for vllm. "
        "A GGUF file implies --engine llamacpp."
    ),
]
Upstream = Annotated[
    str | None,
    typer.Option(
        help="Engine openai: the server's URL. Engine triton: host:port of its gRPC. The key comes by setting."
    ),
]
WorkerPython = Annotated[
    Path | None,
    typer.Option(help="The interpreter for workers, where their engine has an environment of its own."),
]
QdrantUrl = Annotated[str | None, typer.Option(help="Keep indexes on this Qdrant server.", show_default="embedded")]
PostgresUrl = Annotated[
    str | None,
    typer.Option(help="Keep indexes in this Postgres; a password is better set as WEFT_RETRIEVER__POSTGRES_URL."),
]
ModelName = Annotated[str | None, typer.Option(help="The name that clients ask for.")]
DataDir = Annotated[Path | None, typer.Option(help="Where indexes, logs and caches are kept.", show_default=".weft")]
HttpPort = Annotated[int | None, typer.Option(help="HTTP and gRPC for clients.", show_default="8080", min=0, max=65535)]
HttpHost = Annotated[
    str | None, typer.Option(help="Where Envoy listens; it asks nobody who they are.", show_default="127.0.0.1")
]
AdminPort = Annotated[
    int | None, typer.Option(help="Envoy's own admin port, on loopback.", show_default="9901", min=0, max=65535)
]
RouterPort = Annotated[int | None, typer.Option(help="The router's.", show_default="50051", min=0, max=65535)]
LanePort = Annotated[
    int | None, typer.Option(help="The router's for answers: its token lane.", show_default="50052", min=0, max=65535)
]
RetrieverPort = Annotated[int | None, typer.Option(help="The retriever's.", show_default="50081", min=0, max=65535)]
EmbedderPort = Annotated[int | None, typer.Option(help="The embedder's.", show_default="50071", min=0, max=65535)]
WorkerPort = Annotated[int | None, typer.Option(help="Of the first worker.", show_default="50061", min=0, max=65535)]
FreePorts = Annotated[bool, typer.Option("--free-ports", help="Take any free port wherever none is given.")]
SimTtft = Annotated[float | None, typer.Option(min=0.0, help="Engine sim: time to the first token.", show_default="50")]
SimItl = Annotated[float | None, typer.Option(min=0.0, help="Engine sim: time between tokens.", show_default="20")]
SimPrefill = Annotated[
    float | None, typer.Option(min=0.0, help="Engine sim: prompt tokens a second; 0 takes no time.", show_default="0")
]
SimSpeed = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FACTOR[,FACTOR]…", help="Engine sim: one for all workers, or one for each.", show_default="1"
    ),
]
ReadyTimeout = Annotated[float, typer.Option(min=1.0, help="Seconds until everything has to be ready.")]


def up(
    workers: Workers = 2,
    embedders: Embedders = 1,
    engine: Engine = None,
    model: Model = None,
    model_name: ModelName = None,
    upstream: Upstream = None,
    worker_python: WorkerPython = None,
    qdrant_url: QdrantUrl = None,
    postgres_url: PostgresUrl = None,
    data_dir: DataDir = None,
    http_port: HttpPort = None,
    http_host: HttpHost = None,
    envoy_admin_port: AdminPort = None,
    router_port: RouterPort = None,
    lane_port: LanePort = None,
    retriever_port: RetrieverPort = None,
    embedder_port: EmbedderPort = None,
    worker_port: WorkerPort = None,
    free_ports: FreePorts = False,
    sim_ttft_ms: SimTtft = None,
    sim_itl_ms: SimItl = None,
    sim_prefill_tokens_per_s: SimPrefill = None,
    sim_speed: SimSpeed = None,
    ready_timeout: ReadyTimeout = READY_LIMIT_S,
) -> None:
    """Start Envoy, the router, the workers, the embedder and the retriever, and keep them running.

    Each service's admin port is 100 above its port; port 0 takes any free one. Ctrl-C stops everything.

    Example: weft up --workers 4 --engine sim

    Example with vLLM in an environment of its own: weft up --engine vllm --model ~/models/llama --worker-python
    .venv-vllm/bin/python

    Example of unequal workers: weft up --engine sim --sim-speed 1,0.25 --sim-prefill-tokens-per-s 20000
    """
    overrides = Overrides()
    overrides.put("data_dir", data_dir)
    overrides.put("envoy.port", http_port)
    overrides.put("envoy.host", http_host)
    overrides.put("envoy.admin_port", envoy_admin_port)
    overrides.put_port("router", router_port)
    overrides.put("router.lane_port", lane_port)
    overrides.put_port("retriever", retriever_port)
    overrides.put_port("embedder", embedder_port)
    overrides.put_port("worker", worker_port)
    if free_ports:
        overrides.put_free_ports()
    if model is not None and engine in (None, "llamacpp") and looks_like_name(str(model)):
        model = find(str(model), data_dir or load_settings().data_dir)
    overrides.put_model(engine, model)
    overrides.put_upstream(engine, upstream)
    overrides.put_store(qdrant_url, postgres_url)
    overrides.put("worker.python", worker_python and worker_python.absolute())
    overrides.put("worker.model_name", model_name)
    overrides.put("worker.sim.ttft_ms", sim_ttft_ms)
    overrides.put("worker.sim.itl_ms", sim_itl_ms)
    overrides.put("worker.sim.prefill_tokens_per_s", sim_prefill_tokens_per_s)
    speeds = sim_speeds(sim_speed or (), workers)
    settings = load_settings(**overrides.tree)
    check_sim_options(
        settings,
        {
            "--sim-ttft-ms": sim_ttft_ms,
            "--sim-itl-ms": sim_itl_ms,
            "--sim-prefill-tokens-per-s": sim_prefill_tokens_per_s,
            "--sim-speed": sim_speed,
        },
    )
    mesh = prepare(settings, workers, speeds, embedders)
    console = consoles.out()
    run_async(run(mesh, console, screen_for(console, monotonic_s), ready_timeout, _stay))


async def _stay(mesh: Mesh) -> bool:
    """Nothing else to do: the mesh stays up."""
    return True
