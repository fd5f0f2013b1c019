"""Looks at ports: which are free, and which program has one that is not."""

import contextlib
import random
import socket
from collections.abc import Iterator

import psutil

# Below the range from which systems pick the local ends of connections, so that none of those takes a chosen port.
_FIRST, _LAST = 15_000, 32_000
_ATTEMPTS = 1_000


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    return _listen(host, port) is None


def _listen(host: str, port: int, keep: contextlib.ExitStack | None = None) -> str | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
            if keep is not None:
                keep.push(stack.pop_all())
    except OSError as error:
        return error.strerror or str(error)
    return None


class FreePorts:
    """Finds free ports, no two alike: each is held until the end of `lend`."""

    def __init__(self) -> None:
        self._held = contextlib.ExitStack()
        self._chance = random.SystemRandom()

    def __repr__(self) -> str:
        return f"FreePorts({_FIRST}-{_LAST})"

    def take(self) -> int:
        """A port that nothing else listens on. Raises OSError when none can be found."""
        for _ in range(_ATTEMPTS):
            port = self._chance.randrange(_FIRST, _LAST)
            if _listen("127.0.0.1", port, self._held) is None:
                return port
        raise OSError(f"no free port between {_FIRST} and {_LAST}")

    @contextlib.contextmanager
    def lend(self) -> Iterator["FreePorts"]:
        """Holds what is taken until the block ends."""
        with self._held:
            yield self


def holder(port: int) -> str:
    """The program that listens on the port, such as `python3 (pid 12)`; empty where the system does not tell."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == port:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return ""
    return ""
