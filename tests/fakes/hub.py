"""A hub on loopback: as much of the Hugging Face hub's API as its client needs to find and download files."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "c" * 40


class FakeHub:
    """Repositories as files. `cut_after` bytes a download breaks off, once; `lies` tells other hashes than are true."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.cut_after = 0
        self.lies = False
        self.gated = False
        self.ranges: list[str] = []
        self.downloads = 0
        self.url = ""

    def sha256(self, data: bytes) -> str:
        return hashlib.sha256(b"other" if self.lies else data).hexdigest()

    def info(self, repo: str) -> dict[str, object]:
        files = self.repos[repo]
        siblings = [
            {
                "rfilename": name,
                "size": len(data),
                "blobId": "b" * 40,
                **({"lfs": {"sha256": self.sha256(data), "size": len(data), "pointerSize": 130}} if data else {}),
            }
            for name, data in files.items()
        ]
        return {"id": repo, "modelId": repo, "sha": REVISION, "siblings": siblings, "private": False, "tags": []}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        self._serve(body=True)

    def _serve(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        if self.hub.gated:
            self._say(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}, body=body)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.+)?", path):
            if found[1] in self.hub.repos:
                self._say(200, json.dumps(self.hub.info(found[1])).encode(), {}, body=body)
            else:
                self._say(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
        elif (found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)) and found[2] in self.hub.repos.get(
            found[1], {}
        ):
            self._file(self.hub.repos[found[1]][found[2]], body=body)
        else:
            self._say(404, b"{}", {"X-Error-Code": "EntryNotFound"}, body=body)

    def _file(self, data: bytes, *, body: bool) -> None:
        headers = {"ETag": f'"{self.hub.sha256(data)}"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
        begin = 0
        if wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            begin = int(wanted[1])
            self.hub.ranges.append(wanted[0])
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        if body:
            self.hub.downloads += 1
        cut, self.hub.cut_after = (self.hub.cut_after, 0) if body else (0, self.hub.cut_after)
        self._say(206 if begin else 200, data[begin:], headers, body=body, cut=cut)

    def _say(self, status: int, data: bytes, headers: dict[str, str], *, body: bool, cut: int = 0) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data[:cut] if cut else data)
        if cut:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """One that listens while the block lasts."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
