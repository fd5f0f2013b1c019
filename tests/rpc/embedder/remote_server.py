"""A server on a real socket that follows the published APIs of text-embeddings-inference and OpenAI's embeddings.

TEI has no binary that runs here, so this stands in for it: routes, fields, limits and statuses are those of its
OpenAPI page. Vectors are those of tests.fakes.embedder.
"""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from tests.fakes.embedder import DIMENSIONS, vector_of

MAX_TOKENS = 16
MAX_TEXTS = 4


class RemoteServer:
    """`script` holds statuses that the next requests get instead of an answer; `poison` in a text is refused."""

    def __init__(self) -> None:
        self.script: list[int] = []
        self.dimensions = DIMENSIONS
        self.dropped = 0
        self.seen: list[tuple[str, Any]] = []
        self.keys: set[str] = set()
        self.open = 0
        self.most_open = 0
        self.lock = threading.Lock()
        self.url = ""

    def answer(self, path: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        if path == "/info":
            kind = {"embedding": {"pooling": "mean"}}
            limits = {"max_input_length": MAX_TOKENS, "max_client_batch_size": MAX_TEXTS, "max_batch_tokens": 16384}
            about = {"model_id": "fake/model", "model_sha": "abc", "model_dtype": "float32", "version": "1.8.0"}
            return 200, {**about, **limits, "model_type": kind}, {}
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": "remote-model", "object": "model"}]}, {}
        texts = body["input"] if path == "/v1/embeddings" else body["inputs"]
        tokens = [text.split() for text in texts]
        if path == "/tokenize":
            return 200, [[{"id": 1, "text": word} for word in ["<s>", *words, "</s>"]] for words in tokens], {}
        if len(texts) > MAX_TEXTS:
            return 422, {"error": "batch size 9 > maximum allowed batch size 4", "error_type": "Validation"}, {}
        if any("poison" in text for text in texts):
            return 413, {"error": "Input validation error: poison", "error_type": "Validation"}, {}
        vectors = [(vector_of(text) * 8)[: self.dimensions] for text in texts][self.dropped :]
        used = sum(len(words) + 2 for words in tokens)
        if path == "/embed":
            return 200, vectors, {"x-compute-tokens": str(used)}
        data = [
            {"object": "embedding", "index": index, "embedding": self.encoded(vector, body.get("encoding_format"))}
            for index, vector in enumerate(vectors)
        ]
        # A server may answer in any order: the index counts.
        return 200, {"object": "list", "data": data[::-1], "usage": {"prompt_tokens": used, "total_tokens": used}}, {}

    @staticmethod
    def encoded(vector: list[float], form: str) -> Any:
        return base64.b64encode(np.array(vector, "<f4").tobytes()).decode() if form == "base64" else vector


@contextmanager
def remote_server() -> Iterator[RemoteServer]:
    found = RemoteServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            with found.lock:
                found.open += 1
                found.most_open = max(found.most_open, found.open)
                found.seen.append((self.path, body))
                found.keys.add(self.headers.get("authorization") or "")
                status = found.script.pop(0) if found.script else 0
            if status:
                sent, headers = {"error": "no", "error_type": "overloaded"}, {"retry-after": "0"}
            else:
                status, sent, headers = found.answer(self.path, body)
            data = json.dumps(sent).encode()
            with found.lock:
                found.open -= 1
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
