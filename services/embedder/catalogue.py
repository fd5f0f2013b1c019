"""Every model that is served here, by name, each with its batcher, and how busy they are together."""

from collections.abc import Sequence

from services.embedder.batcher import Batcher
from services.embedder.load import Load, LoadBoard
from services.embedder.ports import ModelInfo
from services.kit.errors import NotFound


class Catalogue:
    """The first that is added is the default."""

    def __init__(self) -> None:
        self._batchers: dict[str, Batcher] = {}
        self._draining = False
        self.load = LoadBoard(self._reading)

    def __repr__(self) -> str:
        return f"Catalogue({', '.join(self._batchers)})"

    def add(self, batcher: Batcher) -> None:
        """Serves its model from now on."""
        self._batchers[batcher.model.info.name] = batcher

    @property
    def infos(self) -> Sequence[ModelInfo]:
        """The default first."""
        return [batcher.model.info for batcher in self._batchers.values()]

    def find(self, name: str) -> Batcher:
        """The model's batcher; empty means the default. Raises NotFound that names what is served."""
        found = self._batchers.get(name) if name else next(iter(self._batchers.values()))
        if found is None:
            served = ", ".join(repr(known) for known in self._batchers)
            raise NotFound(
                f"the model {name!r} is not served here; this embedder serves {served}",
                reason="UNKNOWN_MODEL",
                field="model",
            )
        return found

    def drain(self) -> None:
        """Tells those that watch to send nothing more."""
        self._draining = True
        self.load.changed()

    def _reading(self) -> Load:
        batchers = self._batchers.values()
        return Load(
            queued_texts=sum(one.queued_texts for one in batchers),
            queued_tokens=sum(one.queued_tokens for one in batchers),
            running=sum(one.running for one in batchers),
            tokens_per_s=sum(one.pace.tokens_per_s for one in batchers),
            draining=self._draining,
        )
