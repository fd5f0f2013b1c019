"""The client for each way into a mesh, by the name that the command line gives it."""

from collections.abc import Callable

from loadtest.load.client import Client, Target
from loadtest.load.grpc_client import GrpcClient
from loadtest.load.sse_client import SseClient
from loadtest.load.sse_dialect import Dialect

TRANSPORTS = ("grpc", "openai", "http")


def open_client(transport: str, target: Target, now: Callable[[], float]) -> Client:
    """`grpc` is StreamChat, `openai` chat completions over SSE, `http` /v1/chat over SSE. Raises KeyError otherwise."""
    makers: dict[str, Callable[[], Client]] = {
        "grpc": lambda: GrpcClient(target, now),
        "openai": lambda: SseClient(target, Dialect.OPENAI, now),
        "http": lambda: SseClient(target, Dialect.WEFT, now),
    }
    return makers[transport]()
