"""Where vLLM computes without a GPU: in how many processes and threads."""

import os
from typing import Any

from services.kit.cores import cores
from services.kit.settings.worker import WorkerSettings

# Under its own name ("uni") vLLM puts a process of its own behind it, to bind that one's threads to cores.
IN_ENGINE = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
_BACKEND = "distributed_executor_backend"
_BIND = "VLLM_CPU_OMP_THREADS_BIND"


def prepare_cpu(settings: WorkerSettings, arguments: dict[str, Any]) -> None:
    """Lets the engine's process compute itself, with the threads of the settings.

    vLLM computes in a second process, and both spin while they wait for each other: with two engines on a small
    machine that is most of what they do. It also binds each engine to the same cores, all but the last. Where
    VLLM_CPU_OMP_THREADS_BIND or an executor is set, or the model is spread over processes, all stays as vLLM has it.
    """
    mine = settings.vllm
    spread = mine.tensor_parallel_size * mine.pipeline_parallel_size > 1
    if spread or _BACKEND in arguments or os.environ.get(_BIND, "nobind") != "nobind":
        return
    os.environ[_BIND] = "nobind"
    # The engine's process is started anew, so it reads this before its threads are made.
    os.environ.setdefault("OMP_NUM_THREADS", str(mine.cpu_threads or cores()))
    arguments[_BACKEND] = IN_ENGINE
