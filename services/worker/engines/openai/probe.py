"""Asks an upstream what it is: its dialect, its model, its limits and what names its tokenizer."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from services.kit.errors import InvalidArgument, WeftError
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.http import HttpClient
from services.worker.engines.openai.dialect import DIALECTS, LLAMACPP, PLAIN, SGLANG, VLLM, Dialect
from services.worker.engines.openai.refusal import UpstreamError

# Where neither the server nor the settings say.
CONTEXT_TOKENS = 32_768
MAX_RUNNING = 64
# Names over the model that are passed on to routers.
ADAPTERS_LIMIT = 1024
_NAME_LIMIT = 256
# Cut into tokens by the upstream, to tell tokenizers apart: scripts, digits, code, spaces, accents and emoji.
PROBE = (
    "The quick brown fox jumps over 13 lazy dogs; naïve café, Straße, Здравствуй мир, שלום, مرحبا, नमस्ते, 東京の猫, "
    "안녕하세요 🦊🚀 \n\n\tdef f(x): return x**2 + 3.14159e-10  # <tag attr='v'> {\"k\": [1, 2]} HTTP/1.1 antidis"
    "establishmentarianism 1234567890 __init__ camelCaseName    four spaces"
)


@dataclass(frozen=True, slots=True)
class Upstream:
    """What was found. `gauges` is whether it tells its load; `adapters` are other names over the same model.

    `trap` is a control token of llama.cpp's model; see StructureCheck.
    """

    dialect: Dialect
    model: str
    adapters: tuple[str, ...]
    context_tokens: int
    max_running: int
    fingerprint: str
    gauges: bool
    trap: int | None = None

    @property
    def identity(self) -> tuple[str, str, str]:
        """What may not change while the worker runs."""
        return self.dialect.name, self.model, self.fingerprint


async def probe(client: HttpClient, settings: WorkerSettings) -> Upstream:
    """Raises Unavailable while it is away, UpstreamError where it cannot be used as the settings say."""
    try:
        return await _probe(client, settings)
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        # Whatever else it is, it is no such server.
        message = f"{settings.openai.base_url} does not answer as an OpenAI-compatible server does: {error!r}"
        raise UpstreamError(message) from error


async def _probe(client: HttpClient, settings: WorkerSettings) -> Upstream:
    mine = settings.openai
    try:
        cards = _cards(await client.get_json("/v1/models"))
    except WeftError as error:
        if error.reason in ("UPSTREAM_KEY_REFUSED", "UPSTREAM_NOT_FOUND") or isinstance(error, InvalidArgument):
            raise UpstreamError(f"{mine.base_url}/v1/models: {error.message}") from error
        raise
    bases = [card for card in cards if not card.get("parent")]
    card = _chosen(bases, mine.model, mine.base_url)
    model = str(card["id"])
    dialect = DIALECTS.get(mine.dialect) or await _recognise(client, card)
    fingerprint = ""
    if dialect.token_ids:
        fingerprint = await _fingerprint(client, model)
        if not fingerprint:
            # Without its own paths, behind a gateway perhaps, it is any server.
            dialect = PLAIN
    if not dialect.token_ids and (dialect.continues or mine.continues):
        fingerprint = f"text:{settings.model_name or model}"
    props = await _try_json(client, "/props") if dialect is LLAMACPP else None
    return Upstream(
        dialect=dialect,
        model=model,
        adapters=_adapters(cards, model),
        context_tokens=min(filter(None, (settings.context_tokens, _context(card))), default=CONTEXT_TOKENS),
        max_running=settings.max_running or _slots(props) or MAX_RUNNING,
        fingerprint=fingerprint,
        gauges=bool(dialect.gauges.running) and await _has_gauges(client, dialect),
        trap=await _trap(client, props),
    )


def _cards(answer: Any) -> list[dict[str, Any]]:
    cards = answer.get("data") if isinstance(answer, dict) else answer
    if not isinstance(cards, list):
        raise UpstreamError("/v1/models is no list of models: is worker.openai.base_url an OpenAI-compatible server?")
    return [card for card in cards if isinstance(card, dict) and card.get("id")]


def _adapters(cards: list[dict[str, Any]], model: str) -> tuple[str, ...]:
    names = [str(card["id"]) for card in cards if card.get("parent") == model]
    return tuple(dict.fromkeys(name for name in names if len(name) <= _NAME_LIMIT))[:ADAPTERS_LIMIT]


def _chosen(cards: list[dict[str, Any]], model: str, base_url: str) -> dict[str, Any]:
    names = [str(card["id"]) for card in cards]
    if not model and len(cards) == 1:
        return cards[0]
    for card in cards:
        if card["id"] == model or model in (card.get("aliases") or ()):
            return card
    listed = ", ".join(names[:20]) or "none"
    if model:
        raise UpstreamError(f"{base_url} does not serve {model!r}; it has {listed}: set worker.openai.model to one")
    raise UpstreamError(f"{base_url} serves {len(names)} models ({listed}): set worker.openai.model to one of them")


async def _recognise(client: HttpClient, card: dict[str, Any]) -> Dialect:
    """By what the model's card says; a name that a proxy has put there is looked into further."""
    for dialect in (VLLM, LLAMACPP, SGLANG):
        if card.get("owned_by") == dialect.name:
            return dialect
    props = await _try_json(client, "/props")
    if isinstance(props, dict) and "default_generation_settings" in props:
        return LLAMACPP
    if isinstance(await _try_json(client, "/get_model_info"), dict):
        return SGLANG
    version = await _try_json(client, "/version")
    return VLLM if isinstance(version, dict) and set(version) == {"version"} else PLAIN


async def _try_json(client: HttpClient, path: str) -> Any:
    """None where there is no such path."""
    try:
        return await client.get_json(path)
    except WeftError:
        return None


async def _fingerprint(client: HttpClient, model: str) -> str:
    """Names vLLM's tokenizer by how it cuts a text into tokens, ids and pieces; empty where it does not tell.

    Servers of equal models give equal ones, whatever the paths of their files are.
    """
    body = {"model": model, "prompt": PROBE, "return_token_strs": True, "add_special_tokens": True}
    try:
        cut = await client.post("/tokenize", body)
        back = await client.post("/detokenize", {"model": model, "tokens": cut["tokens"]})
        first = await client.post(
            "/v1/completions",
            {"model": model, "prompt": cut["tokens"][:4], "max_tokens": 1, "return_token_ids": True},
        )
        if not first["choices"][0].get("token_ids"):
            return ""
    except (WeftError, KeyError, IndexError, TypeError):
        return ""
    parts = json.dumps([cut["tokens"], cut.get("token_strs"), back.get("prompt")])
    return "vllm:" + hashlib.blake2b(parts.encode(), digest_size=12).hexdigest()


def _context(card: dict[str, Any]) -> int:
    meta = card.get("meta") or {}
    return int(card.get("max_model_len") or card.get("context_length") or meta.get("n_ctx") or 0)


def _slots(props: Any) -> int:
    """Requests that llama.cpp runs at once; 0 where the server does not tell."""
    return int(props.get("total_slots") or 0) if isinstance(props, dict) else 0


async def _trap(client: HttpClient, props: Any) -> int | None:
    """The token that begins llama.cpp's prompts, where it is one and not the one that ends answers too."""
    begin = props.get("bos_token") if isinstance(props, dict) else None
    if not begin or begin == props.get("eos_token"):
        return None
    try:
        answer = await client.post("/tokenize", {"content": begin, "add_special": False, "parse_special": True})
    except WeftError:
        return None
    ids = answer.get("tokens") or []
    return int(ids[0]) if len(ids) == 1 else None


async def _has_gauges(client: HttpClient, dialect: Dialect) -> bool:
    try:
        return dialect.gauges.running in await client.get_text("/metrics")
    except WeftError:
        return False
