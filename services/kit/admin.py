"""Each service's small HTTP port: /metrics for Prometheus, /healthz (the process is up), /readyz (it can work)."""

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from services.kit.server import AddressInUse

SILENT_S = 10.0
"""A connection that says nothing for so long is closed."""
POLL_S = 0.05
"""How long `stop` may take to be noticed."""


class _Server(ThreadingMixIn, WSGIServer):
    """One thread for each connection, so that one that says nothing holds up nobody, nor the stop."""

    daemon_threads = True
    block_on_close = False


class _QuietHandler(WSGIRequestHandler):
    timeout = SILENT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not worth a log line."""


class AdminServer:
    """Serves in a thread of its own until `stop`. `not_ready` returns why the service is not ready, or nothing."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, not_ready: Callable[[], str]) -> None:
        self._metrics = make_wsgi_app(registry)
        self._not_ready = not_ready
        try:
            self._server: WSGIServer = make_server(
                host, port, self._answer, server_class=_Server, handler_class=_QuietHandler
            )
        except OSError as error:
            raise AddressInUse(
                f"cannot listen on {host}:{port}: {error.strerror}; stop the program that has it or choose another port"
            ) from error
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), name="admin", daemon=True)
        self._thread.start()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environ, start_response)
            return answer
        if path == "/healthz":
            return self._text(start_response, "200 OK", "ok")
        if path == "/readyz":
            reason = self._not_ready()
            return self._text(start_response, "503 Service Unavailable" if reason else "200 OK", reason or "ready")
        return self._text(start_response, "404 Not Found", "paths here: /metrics, /healthz, /readyz")

    @staticmethod
    def _text(start_response: Any, status: str, text: str) -> Iterable[bytes]:
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{text}\n".encode()]

    def stop(self) -> None:
        """Stops listening and ends the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
