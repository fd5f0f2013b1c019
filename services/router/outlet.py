"""Where an answer's messages leave: a call on the lane takes bytes at once, one on grpc.aio is awaited."""

from typing import Any, Protocol

import grpc.aio


class Outlet(Protocol):
    """One call's way to its client."""

    @property
    def pushes(self) -> bool:
        """Whether `push` is worth trying."""
        ...

    def push(self, message: bytes) -> bool:
        """Sends a serialised message where it can leave at once; False where it has to be written, and waited for."""
        ...

    async def write(self, message: Any) -> None:
        """Sends a message; returns when the transport took it, so a slow client holds its own answer alone."""
        ...


class AioOutlet:
    """A call on grpc.aio: each message is a task's wait, so nothing can be pushed."""

    pushes = False

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.write = context.write

    def push(self, message: bytes) -> bool:
        """See Outlet."""
        return False
