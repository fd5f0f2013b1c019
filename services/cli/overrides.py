"""Turns the options of `weft up` into settings that win over the file and the environment."""

from pathlib import Path
from typing import Any

from services.cli.plan import ADMIN_OFFSET
from services.cli.problem import UsageProblem


class Overrides:
    """Collects options; those that were not given leave the settings alone."""

    def __init__(self) -> None:
        self._tree: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Overrides({self._tree})"

    def put(self, key: str, value: object) -> None:
        """Sets the dotted key, unless the value is None."""
        if value is None:
            return
        *sections, last = key.split(".")
        place = self._tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value

    def put_port(self, section: str, port: int | None) -> None:
        """Sets a service's port and, ADMIN_OFFSET above it, its admin port; 0 leaves both to be found."""
        self.put(f"{section}.port", port)
        self.put(f"{section}.admin_port", port and port + ADMIN_OFFSET)

    def put_free_ports(self) -> None:
        """Leaves every port to be found, except those that were given."""
        for section in ("envoy", "router", "retriever", "embedder", "worker"):
            for key in ("port", "admin_port"):
                self._tree.setdefault(section, {}).setdefault(key, 0)
        self._tree["router"].setdefault("lane_port", 0)

    def put_model(self, engine: str | None, model: Path | None) -> None:
        """A GGUF file without an engine means the engine that reads such files; vLLM takes names on the hub too."""
        if engine is None and model is not None and model.suffix == ".gguf":
            engine = "llamacpp"
        self.put("worker.engine", engine)
        if engine == "vllm" and model is not None and not model.expanduser().exists():
            self.put("worker.vllm.model", str(model))
        else:
            self.put("worker.model", model and model.expanduser().absolute())

    def put_upstream(self, engine: str | None, upstream: str | None) -> None:
        """Where the engine's server is. Raises UsageProblem for an engine that has none."""
        keys = {"openai": "worker.openai.base_url", "triton": "worker.triton.url"}
        if upstream is not None and engine not in keys:
            raise UsageProblem(f"--upstream needs --engine {' or '.join(keys)}")
        if upstream is not None and engine is not None:
            self.put(keys[engine], upstream)

    def put_store(self, qdrant_url: str | None, postgres_url: str | None) -> None:
        """The server that keeps the indexes. Raises UsageProblem where there are two."""
        if qdrant_url and postgres_url:
            raise UsageProblem("--qdrant-url and --postgres-url exclude each other: indexes are kept in one place")
        for store, url in (("qdrant", qdrant_url), ("postgres", postgres_url)):
            if url:
                self.put("retriever.store", store)
                self.put(f"retriever.{store}_url", url)

    @property
    def tree(self) -> dict[str, Any]:
        """Nested mappings for `load_settings`."""
        return self._tree
