"""Runs a service as a process: settings, logs, signals, and an end when its parent ends."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import structlog
import uvloop

from services.kit.errors import WeftError
from services.kit.leash import die_with_parent
from services.kit.settings import Settings, SettingsError, load_settings
from services.kit.telemetry import start_logging, start_tracing


def run_service(name: str, serve: Callable[[Settings, asyncio.Event], Awaitable[None]]) -> int:
    """Runs `serve` until SIGTERM or SIGINT sets its event; returns the exit code.

    2 for wrong settings, 1 for a failure that has a clear sentence; the sentence goes to stderr.
    """
    if supervisor := os.environ.get("WEFT_SUPERVISED"):
        die_with_parent(int(supervisor))
    try:
        settings = load_settings()
    except SettingsError as error:
        print(f"weft {name}: {error}", file=sys.stderr)  # noqa: T201 - there is no log before there are settings
        return 2
    start_logging(name, settings.log_level)
    start_tracing(name, settings.telemetry)
    return uvloop.run(_run(name, settings, serve))


async def _run(name: str, settings: Settings, serve: Callable[[Settings, asyncio.Event], Awaitable[None]]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_or_end() -> None:
        """The first signal asks for an orderly stop, the second ends the process as it is."""
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_or_end)
    log = structlog.get_logger(name)
    try:
        await serve(settings, stop)
    except WeftError as error:
        log.error("failed", reason=error.reason, message=error.message)
        return 1
    log.info("stopped")
    return 0
