"""An engine that does what a test tells it: it answers each request with its words, breaks, and works again."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from services.kit.errors import Unavailable
from services.kit.settings.worker import WorkerSettings
from services.worker.ports import About, EngineLoad, Finish, Reason, Sink, Started, Step, Tokens, Work

ABOUT = About("fake", "tale", max_running=4, context_tokens=4096, tokenizer_fingerprint="words")


@dataclass
class FakeEngine:
    """Answers at once with `words`, one step each. With `holds_after` a request stops after so many tokens.

    `break_down` ends those that stopped. One that is `text_only` goes on after the resumed text, in one token.
    """

    about: About = ABOUT
    words: tuple[str, ...] = ("once", " upon", " a", " time")
    holds_after: int | None = None
    works: list[Work] = field(default_factory=list)
    sink: Sink = field(init=False)
    broken: str = ""

    def __post_init__(self) -> None:
        self._held: list[int] = []
        self._steps = 0

    def open(self) -> Callable[[WorkerSettings, Sink], AbstractAsyncContextManager["FakeEngine"]]:
        """For the worker's `serve`."""

        @asynccontextmanager
        async def opening(settings: WorkerSettings, sink: Sink) -> AsyncIterator["FakeEngine"]:
            self.sink = sink
            yield self

        return opening

    def submit(self, work: Work) -> None:
        """See Engine."""
        self.works.append(work)
        self.sink(Step(self.load(), started=[Started(work.key, 3)]))
        first, words = len(work.resume), self.words
        if first and self.about.text_only:
            words = (*[""] * first, "".join(words)[len(work.resume_text) :])
        for index in range(first, len(words)):
            if index == self.holds_after:
                self._held.append(work.key)
                return
            ids = [0] if self.about.text_only else [100 + index]
            self._steps += 1
            self.sink(Step(self.load(), tokens=[Tokens(work.key, index, ids, words[index])]))
        self.sink(Step(self.load(), ended=[(work.key, Finish(Reason.STOP, 3, 0, len(words)))]))

    def break_down(self, why: str) -> None:
        """Every request ends, and no more may come."""
        self.broken = why
        ended, self._held = [(key, Unavailable(why, reason="ENGINE_BROKEN")) for key in self._held], []
        self.sink(Step(self.load(), ended=[*ended]))

    def work_again(self) -> None:
        """It is started anew."""
        self.broken = ""
        self.sink(Step(self.load()))

    def cancel(self, key: int) -> None:
        """See Engine."""
        if key in self._held:
            self._held.remove(key)
            self.sink(Step(self.load(), ended=[(key, Finish(Reason.CANCELLED, 3, 0, 0))]))

    def load(self) -> EngineLoad:
        """See Engine."""
        return EngineLoad(running=len(self._held), step_count=self._steps, broken=self.broken)

    def cached(self) -> tuple[int, ...]:
        """See Engine."""
        return ()
