"""Follows whether the models can work, for those in other processes go away and come back. Embeds nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from services.embedder.ports import Model

# A model that went away or came back is noticed within so long.
CHECK_S = 2.0


class Vigil:
    """Says why none of the models can work; empty while one can, since those that cannot must not cost the others."""

    def __init__(self, models: Sequence[Model], check_s: float = CHECK_S) -> None:
        self._models = models
        self._check_s = check_s
        self._away: dict[str, str] = {}
        self._log = structlog.get_logger("models")

    def __repr__(self) -> str:
        return f"Vigil({len(self._models)} models, away: {', '.join(self._away) or 'none'})"

    @property
    def reason(self) -> str:
        """In one sentence for each model."""
        return (
            "; ".join(self._away[model.info.name] for model in self._models)
            if len(self._away) == len(self._models)
            else ""
        )

    async def keep(self, tell: Callable[[bool], Awaitable[None]]) -> None:
        """Runs until it is cancelled, and tells each change of whether any model can work."""
        while True:
            await asyncio.sleep(self._check_s)
            before = not self.reason
            await self.check()
            if before is not (not self.reason):
                await tell(not before)

    async def check(self) -> None:
        """Asks every model once."""
        whys = await asyncio.gather(*(model.why_away() for model in self._models))
        for model, why in zip(self._models, whys, strict=True):
            name = model.info.name
            if why and name not in self._away:
                self._log.warning("away", model=name, reason=why)
            elif not why and name in self._away:
                self._log.info("back", model=name)
            self._away.pop(name, None)
            if why:
                self._away[name] = why
