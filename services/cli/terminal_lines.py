"""Lines that a person types, read in a thread so that answers can come in meanwhile."""

import asyncio
import contextlib
import os
import sys
import termios
import threading
from typing import Any, Self

MAX_LINE_BYTES = 1024 * 1024
"""A longer line of a pipe is taken as it is so far."""
_CHUNK_BYTES = 64 * 1024


class TerminalLines:
    """Asks for one line at a time. The terminal is left as it was found, however the block ends."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self._saved: Any = None
        self._unread = b""

    def __repr__(self) -> str:
        return f"TerminalLines({self._prompt!r})"

    def __enter__(self) -> Self:
        with contextlib.suppress(termios.error, OSError, ValueError):
            self._saved = termios.tcgetattr(sys.stdin.fileno())
        # Where it is there, it lets people edit and repeat what they typed.
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - importing it gives input() line editing
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._saved)

    async def next(self) -> str | None:
        """The next line without its end; None at the end of the input."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[str | None] = loop.create_future()

        def settle(line: str | None) -> None:
            if not found.done():
                found.set_result(line)

        def read() -> None:
            line = self._typed() if sys.stdin.isatty() else self._piped()
            with contextlib.suppress(RuntimeError):
                # The loop may be gone: then nobody waits for the line.
                loop.call_soon_threadsafe(settle, line)

        # A daemon, because nothing can end a read of the terminal when the mesh goes away meanwhile.
        threading.Thread(target=read, name="lines", daemon=True).start()
        return await found

    def _typed(self) -> str | None:
        try:
            return input(self._prompt)
        except (EOFError, OSError):
            return None

    def _piped(self) -> str | None:
        # Straight from the descriptor: Python cannot end while a thread waits within its own buffered stdin.
        while b"\n" not in self._unread and len(self._unread) < MAX_LINE_BYTES:
            found = os.read(sys.stdin.fileno(), _CHUNK_BYTES)
            if not found:
                rest, self._unread = self._unread, b""
                return rest.decode(errors="replace") or None
            self._unread += found
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode(errors="replace")
