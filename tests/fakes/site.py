"""A web site on a real socket: pages by path, each with status, headers and body; counts what it is asked."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass
class Page:
    """What is answered; `etag` answers 304 to who has it. While `gate` is not set, the answer waits."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = ""
    gate: threading.Event | None = None


class Site:
    """`with Site() as site:`; `site.pages["/a.html"] = Page(b"...")`."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.pages: dict[str, Page] = {}
        self.asked: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """A page's address."""
        return f"http://{host}:{self.port}{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for page in self.pages.values():
            if page.gate:
                page.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _answer(self, call: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.asked[call.path] += 1
            self.headers.append(dict(call.headers))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            page = self.pages.get(call.path, Page(status=404))
            if page.gate:
                page.gate.wait(30)
            unchanged = bool(page.etag) and call.headers.get("If-None-Match") == page.etag
            call.send_response(304 if unchanged else page.status)
            if page.etag:
                call.send_header("ETag", page.etag)
            for name, value in page.headers.items():
                call.send_header(name, value)
            call.end_headers()
            if not unchanged:
                call.wfile.write(page.body)
        except OSError:
            # The client has left.
            pass
        finally:
            with self._lock:
                self._at_once -= 1
