"""JSON over HTTP to an embedding server: bounded connections, and statuses as errors of the one tree."""

import ssl
from collections.abc import Sequence
from typing import Any

import httpx

from services.embedder.ports import Prepared
from services.kit.errors import Exhausted, Internal, InvalidArgument, Unavailable, WeftError
from services.kit.plain_text import is_this_machine
from services.kit.settings.embedder import EmbeddingModelSettings

_CONNECT_S = 5.0
_MESSAGE_CHARS = 500
_BYTES_PER_TOKEN = 4
_SPECIAL_TOKENS = 2
_REFUSED = (400, 404, 413, 422)
_AWAY = (502, 503, 504)


class JsonClient:
    """Every call raises Exhausted (429), Unavailable (away, or 502 to 504), InvalidArgument (refused) or Internal."""

    def __init__(self, name: str, url: str, settings: EmbeddingModelSettings, api_key: str = "") -> None:
        self._name = name
        self._url = url
        key = api_key or settings.api_key.get_secret_value()
        here = is_this_machine(url)
        verify: ssl.SSLContext | bool = True
        if settings.ca_file or here:
            verify = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=settings.connections),
            timeout=httpx.Timeout(settings.request_timeout_s, connect=_CONNECT_S),
            verify=verify,
            # A proxy that the environment names would be another machine, which reads the key on its way back here.
            trust_env=not here,
        )

    def __repr__(self) -> str:
        return f"JsonClient({self._name} at {self._url})"

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.aclose()

    async def get(self, path: str) -> Any:
        """The answer's JSON."""
        return (await self._send("GET", path, None, None))[0]

    async def post(self, path: str, body: Any, timeout_s: float | None = None) -> tuple[Any, httpx.Headers]:
        """The answer's JSON and headers."""
        return await self._send("POST", path, body, timeout_s)

    async def _send(self, method: str, path: str, body: Any, timeout_s: float | None) -> tuple[Any, httpx.Headers]:
        timeout: Any = httpx.USE_CLIENT_DEFAULT
        if timeout_s is not None:
            timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S))
        try:
            response = await self._client.request(method, path, json=body, timeout=timeout)
            if response.is_success:
                return response.json(), response.headers
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise Unavailable(
                f"the server of {self._name} at {self._url} is away ({why}); try again when it is back",
                reason="REMOTE_AWAY",
            ) from error
        except ValueError as error:
            raise Internal(
                f"the server of {self._name} at {self._url} answered {path} with something other than JSON",
                reason="REMOTE_ANSWER",
            ) from error
        raise self._refusal(response)

    def _refusal(self, response: httpx.Response) -> WeftError:
        status = response.status_code
        said = f"the server of {self._name} at {self._url} answered {status}: {_message(response)}"
        delay_s = _seconds(response.headers.get("retry-after"))
        if status == httpx.codes.TOO_MANY_REQUESTS:
            return Exhausted(said, reason="REMOTE_FULL", retry_delay_s=delay_s)
        if status in _AWAY:
            return Unavailable(said, reason="REMOTE_AWAY", retry_delay_s=delay_s)
        if status in _REFUSED:
            return InvalidArgument(said, reason="REMOTE_REFUSED", field="text")
        return Internal(said, reason="REMOTE_FAILED")


def estimated(texts: Sequence[str], max_tokens: int) -> list[Prepared]:
    """The texts with about the tokens that they will take."""
    return [
        Prepared(min(len(text.encode()) // _BYTES_PER_TOKEN + _SPECIAL_TOKENS, max_tokens), truncated=False, text=text)
        for text in texts
    ]


def may_be_cut(text: str, max_tokens: int) -> bool:
    """Whether the text could exceed the limit: a token is at least a byte."""
    return len(text) * 4 + _SPECIAL_TOKENS > max_tokens and len(text.encode()) + _SPECIAL_TOKENS > max_tokens


def _message(response: httpx.Response) -> str:
    """What the server says, in OpenAI's, TEI's or any other form."""
    try:
        found = response.json()
    except ValueError:
        found = response.text
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    return str(found)[:_MESSAGE_CHARS]


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        # The other form is a date, which would need this machine's clock to agree with the server's.
        return None
