"""Where an answer's messages leave: a call on the lane takes bytes at once, one on grpc.aio is awaited."""

from typing import Any, Protocol

import grpc.aio


class Outlet(Protocol):
    """One call's way to its client."""

    def roomy(self) -> bool:
        """Whether `push` hands on at once; False means that messages are written, and waited for."""
        ...

    def push(self, message: bytes) -> None:
        """Sends a serialised message without waiting; only right after `roomy` said True."""
        ...

    async def write(self, message: Any) -> None:
        """Sends a message; returns when the transport took it, so a slow client holds its own answer alone."""
        ...


class AioOutlet:
    """A call on grpc.aio: each message is a task's wait, so nothing can be pushed."""

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.write = context.write

    def roomy(self) -> bool:
        """See Outlet."""
        return False

    def push(self, message: bytes) -> None:
        """See Outlet."""
        raise AssertionError("grpc.aio has no room that does not have to be waited for")
