"""`python -m tests.fakes.llama_server MODEL.gguf`: llama.cpp's own HTTP server over a small model, until it is ended.

Its first line of output is the port. The KV cache is exact, so that greedy answers are the same alone and in a batch.
"""

import signal
import sys

import xllamacpp

from services.kit.leash import die_with_parent

SLOTS = 8
CONTEXT_TOKENS = 1024


def main() -> None:
    """Serves until SIGTERM."""
    die_with_parent()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT_TOKENS
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.endpoint_metrics = True
    params.verbosity = 0
    server = xllamacpp.Server(params)
    # One token: a llama.cpp that is stopped before its loop has begun never ends.
    server.handle_completions({"prompt": "a", "max_tokens": 1})
    print(server.listening_address.rpartition(":")[2], flush=True)
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()
