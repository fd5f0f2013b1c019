"""What the runner asks of a client, whatever it speaks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from loadtest.load.record import Record

Done = Callable[[Record], object]
"""Called once for each answer, when it has ended."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send to. `headers` go with every request; `ca_file` turns TLS on, and `tls` with the system's CAs."""

    host: str
    port: int
    model: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    tls: bool = False
    ca_file: str = ""
    timeout_s: float = 300.0
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def authority(self) -> str:
        """host:port, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Client(Protocol):
    """Sends requests and fills in records. It has no task for each answer: what comes is handled where it is read."""

    async def open(self) -> None:
        """Connects. Raises OSError where nobody answers."""

    def send(self, record: Record, done: Done) -> None:
        """Asks now. Whatever happens, `done` is called once."""

    def cancel(self, record: Record) -> None:
        """Leaves the answer; it ends with code CANCELLED."""

    async def close(self) -> None:
        """Ends every connection."""
