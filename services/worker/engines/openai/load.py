"""Finds the upstream, waits until it answers, and opens the engine on it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import structlog
from pydantic import SecretStr

from services.kit.errors import Unavailable
from services.kit.plain_text import is_in_the_open
from services.kit.settings.engines.openai import OpenAISettings
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.grammar import StructureCheck
from services.worker.engines.http import HttpClient
from services.worker.engines.names import name_clash
from services.worker.engines.openai.engine import OpenAIEngine
from services.worker.engines.openai.probe import Upstream, probe
from services.worker.engines.openai.refusal import UpstreamError, to_refusal
from services.worker.engines.openai.route import IdRoute, Route, TextRoute
from services.worker.engines.openai.watch import Watch
from services.worker.ports import About, Sink

_RETRY_S = 0.5
# For all that is asked to learn what an upstream is, a token of its model included.
_PROBE_LIMIT_S = 30.0


@asynccontextmanager
async def open_openai(settings: WorkerSettings, sink: Sink) -> AsyncIterator[OpenAIEngine]:
    """Serves the upstream until the block ends. Raises UpstreamError where it is away for `start_limit_s` or unusable.

    The upstream is not this worker's: it runs on when the worker stops.
    """
    mine = settings.openai
    _check_privacy(mine)
    # What it is, is asked without kept connections; for the work itself its dialect decides.
    upstream = await _find(_client(mine, keep=False), settings)
    about = _about(settings, upstream)
    if clash := name_clash(about.model, about.adapters, f"the upstream {mine.base_url}"):
        raise UpstreamError(clash)
    client = _client(mine, keep=upstream.dialect.keep_connections)
    engine = OpenAIEngine(
        about,
        client,
        _route(client, upstream, mine),
        mine.silence_limit_s,
        sink,
        max_waiting=settings.max_waiting,
    )
    watch = Watch(
        client,
        upstream,
        lambda: probe(client, settings),
        every_s=mine.health_every_s,
        timeout_s=mine.health_timeout_s,
        read=engine.read,
        broke=engine.broke,
    )
    watching = asyncio.create_task(watch.run())
    try:
        yield engine
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await engine.close()
        client.close()


async def _find(client: HttpClient, settings: WorkerSettings) -> Upstream:
    """Asks again and again while the upstream is away: it may still be loading its model."""
    loop, log = asyncio.get_running_loop(), structlog.get_logger("openai")
    give_up_s = loop.time() + settings.openai.start_limit_s
    said = False
    while True:
        limit_s = max(settings.openai.health_timeout_s, min(_PROBE_LIMIT_S, give_up_s - loop.time()))
        try:
            async with asyncio.timeout(limit_s):
                upstream = await probe(client, settings)
        except (Unavailable, TimeoutError) as error:
            why = error.message if isinstance(error, Unavailable) else f"it did not answer within {limit_s:g} s"
            if loop.time() >= give_up_s:
                message = f"{settings.openai.base_url}: {why}; set worker.openai.base_url, or start the server"
                raise UpstreamError(message) from error
            if not said:
                log.warning("waiting for the upstream", url=settings.openai.base_url, why=why)
                said = True
            await asyncio.sleep(_RETRY_S)
        else:
            log.info("upstream found", dialect=upstream.dialect.name, model=upstream.model)
            return upstream


def _check_privacy(mine: OpenAISettings) -> None:
    """Raises UpstreamError where others could read what lets this worker in."""
    secrets = [name for name in ("api_key", "headers") if _is_set(getattr(mine, name))]
    if secrets and not mine.allow_plain_text and is_in_the_open(mine.base_url):
        raise UpstreamError(
            f"worker.openai.{' and '.join(secrets)} would go to {mine.base_url} in plain text, where others can read "
            "them: set an https address in worker.openai.base_url, take them out, or set "
            "worker.openai.allow_plain_text on a network that you trust"
        )


def _is_set(value: SecretStr | dict[str, str]) -> bool:
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)


def _client(mine: OpenAISettings, *, keep: bool) -> HttpClient:
    base_url = mine.base_url.rstrip("/").removesuffix("/v1")
    headers = dict(mine.headers)
    if key := mine.api_key.get_secret_value():
        headers["Authorization"] = f"Bearer {key}"
    tls = _tls(mine) if base_url.startswith("https") else None
    name = f"the upstream {urlsplit(base_url).netloc.rpartition('@')[2]}"
    try:
        return HttpClient(
            base_url, headers, to_refusal, name=name, tls=tls, connect_timeout_s=mine.connect_timeout_s, keep=keep
        )
    except ValueError as error:
        # A port that is none shows when it is read.
        raise UpstreamError(f"worker.openai.base_url {mine.base_url} is no address: {error}") from error


def _tls(mine: OpenAISettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(mine.ca_file) if mine.ca_file else None)
    except OSError as error:
        raise UpstreamError(f"worker.openai.ca_file {mine.ca_file} cannot be read: {error}") from error
    if not mine.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _route(client: HttpClient, upstream: Upstream, mine: OpenAISettings) -> Route:
    if upstream.dialect.token_ids:
        return IdRoute(client, upstream.dialect, upstream.model, upstream.context_tokens)
    check = StructureCheck(client.post, upstream.trap)
    return TextRoute(client, upstream.dialect, upstream.model, upstream.context_tokens, mine.max_tokens, check)


def _about(settings: WorkerSettings, upstream: Upstream) -> About:
    dialect = upstream.dialect
    return About(
        engine="openai",
        model=settings.model_name or upstream.model,
        max_running=upstream.max_running,
        context_tokens=upstream.context_tokens,
        tokenizer_fingerprint=upstream.fingerprint,
        # By ids alone it is not: in half precision a token's logits differ with how it came into the cache.
        exact_resume=dialect.token_ids and settings.openai.exact,
        logprobs=True,
        replays_penalties=dialect.replays_penalties,
        longest_step_s=settings.openai.longest_step_s,
        structured_output=True,
        text_only=not dialect.token_ids,
        adapters=upstream.adapters,
    )
