"""Who waits for which request: fans each engine step out as one message per link. It admits and refuses nothing."""

import asyncio
from dataclasses import dataclass, replace

from services.kit.clock import Now
from services.kit.errors import DeadlineExceeded, WeftError
from services.worker import convert
from services.worker.link import Link
from services.worker.metrics import WorkerMetrics
from services.worker.ports import EngineLoad, Finish, Reason, Step
from weft.worker.v1 import worker_pb2 as pb


@dataclass(slots=True)
class Route:
    """Where one request's tokens go. `request` is its number on that link; `sent` counts tokens, resumed ones too."""

    link: Link
    request: int
    sent: int = 0
    expiry: asyncio.TimerHandle | None = None
    expired: bool = False


class Board:
    """The table of requests that the engine works on, by key; its size is bounded by whoever adds to it."""

    def __init__(self, metrics: WorkerMetrics, now: Now) -> None:
        self._routes: dict[int, Route] = {}
        self._listeners: set[Link] = set()
        self._metrics = metrics
        self._now = now
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        self.broken = ""
        """Why the engine cannot work now, as its newest reading says."""
        self.turned = asyncio.Event()
        """Set whenever `broken` changes."""

    def __repr__(self) -> str:
        return f"Board(requests={len(self._routes)} draining={self.draining})"

    def __len__(self) -> int:
        return len(self._routes)

    def listen(self, link: Link) -> None:
        """The link hears of every change of the prefix cache from now on, until `forget`."""
        self._listeners.add(link)

    def forget(self, link: Link) -> None:
        """The link hears of no more changes."""
        self._listeners.discard(link)

    def add(self, key: int, route: Route) -> None:
        """Tokens of `key` go to `route` from now on, until it ends."""
        self._routes[key] = route
        route.link.requests[route.request] = key
        self._idle.clear()

    def get(self, key: int) -> Route | None:
        """The request's route, while it has not ended."""
        return self._routes.get(key)

    def under_way(self) -> list[int]:
        """Every request that has not ended."""
        return list(self._routes)

    async def wait_idle(self) -> None:
        """Returns once no request is left."""
        await self._idle.wait()

    def deliver(self, step: Step) -> None:
        """Sends one step on. This is the token path: per token it makes the wire's own Delta and nothing else."""
        routes = self._routes
        messages: dict[Link, pb.AttachResponse] = {}

        def message_to(link: Link) -> pb.AttachResponse:
            message = messages.get(link)
            if message is None:
                message = messages[link] = pb.AttachResponse()
            return message

        for key, prompt_tokens, cached_tokens in step.started:
            if route := routes.get(key):
                message_to(route.link).started.add(
                    request=route.request, prompt_tokens=prompt_tokens, cached_tokens=cached_tokens
                )
        count = 0
        for key, first, ids, text, logprobs in step.tokens:
            route = routes.get(key)
            if route is None:
                continue
            route.sent = first + len(ids)
            count += len(ids)
            delta = message_to(route.link).deltas.add(request=route.request, index=first, token_ids=ids, text=text)
            if logprobs:
                delta.logprobs.extend([convert.from_logprob(logprob) for logprob in logprobs])
        for key, outcome in step.ended:
            if route := routes.pop(key, None):
                message_to(route.link).ended.append(self._settle(route, outcome))
        if step.cache is not None:
            events = convert.from_cache(step.cache)
            for link in self._listeners:
                message_to(link).kv_events.extend(events)
        self._send(messages, step.load)
        self._count(step.load, count)
        if not routes:
            self._idle.set()

    def _settle(self, route: Route, outcome: Finish | WeftError) -> pb.Ended:
        """How a request ended for its router: an engine knows nothing of deadlines, it was only told to cancel."""
        route.link.requests.pop(route.request, None)
        if route.expiry is not None:
            route.expiry.cancel()
        if route.expired and isinstance(outcome, Finish) and outcome.reason is Reason.CANCELLED:
            if route.sent:
                outcome = replace(outcome, reason=Reason.DEADLINE)
            else:
                outcome = DeadlineExceeded("the deadline passed before the first token")
        self._metrics.count(outcome)
        return convert.from_outcome(route.request, outcome)

    def _send(self, messages: dict[Link, pb.AttachResponse], load: EngineLoad) -> None:
        """Each message carries the newest reading, so that a busy link needs no message for it alone."""
        if load.broken != self.broken:
            self.turn(load.broken)
        reading = convert.from_load(load, draining=self.draining)
        now_s = self._now()
        for link, message in messages.items():
            message.load.CopyFrom(reading)
            link.put(message, now_s)

    def turn(self, broken: str) -> None:
        """The engine broke, or (an empty reason) works."""
        self.broken = broken
        self._metrics.broken.set(bool(broken))
        self.turned.set()

    def _count(self, load: EngineLoad, tokens: int) -> None:
        self._metrics.running.set(load.running)
        self._metrics.waiting.set(load.waiting)
        self._metrics.kv_usage.set(load.kv_usage)
        if tokens:
            self._metrics.tokens.inc(tokens)
            self._metrics.steps.inc()
            self._metrics.step_seconds.observe(load.step_time_s)

    def refuse(self, link: Link, request: int, error: WeftError, load: EngineLoad) -> None:
        """Answers a start that no engine saw."""
        self._metrics.count(error)
        self._send({link: pb.AttachResponse(ended=[convert.from_outcome(request, error)])}, load)

    def report(
        self, link: Link, load: EngineLoad, hello: pb.Hello | None = None, cached: tuple[int, ...] | None = None
    ) -> None:
        """Sends a reading, and with it who the worker is or what its prefix cache holds."""
        events = convert.from_cached(cached) if cached is not None else ()
        self._send({link: pb.AttachResponse(hello=hello, kv_events=events)}, load)
