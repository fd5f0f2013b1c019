"""Web pages: each hop's address, robots.txt and host's pace are minded, and nothing larger than allowed is read."""

import asyncio
import contextlib
import ipaddress
import ssl
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx

from services.kit.clock import Now
from services.kit.settings.ingest import HttpSourceSettings
from services.retriever.failure import too_large, unreadable
from services.retriever.jobs.job import Tag
from services.retriever.sources.addresses import Resolver
from services.retriever.sources.robots import MAX_BYTES as ROBOTS_BYTES
from services.retriever.sources.robots import Robots
from services.retriever.sources.source import Fetched, Page, SourceAway
from services.retriever.sources.turns import Turns
from services.retriever.sources.wanted import ENDINGS

_ACCEPT = "text/html, application/xhtml+xml, application/pdf, text/*;q=0.9, application/json;q=0.9, */*;q=0.5"
# Answers that another try may change; every other 4xx stays as it is.
_AWAY = frozenset({408, 421, 423, 425, 429})
_GZIP = 16 + zlib.MAX_WBITS
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: httpx.Headers
    content: bytes


class HttpSource:
    """http and https URIs; implements the port Source. `close` after use. No cookies, no proxies, no credentials."""

    def __init__(self, settings: HttpSourceSettings, max_bytes: int, now: Now) -> None:
        self._settings = settings
        self._max_bytes = max_bytes
        self._names = Resolver([ipaddress.ip_network(name) for name in settings.allowed_networks])
        self._turns = Turns(settings.per_host, settings.delay_s, now)
        self._robots = Robots(self._robots_txt, settings.user_agent, settings.robots_ttl_s, now)
        # Connections are kept by address, which hosts with different certificates may share: so none is kept.
        self._transport = httpx.AsyncHTTPTransport(
            verify=ssl.create_default_context(), trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    def __repr__(self) -> str:
        return f"HttpSource({self._turns!r} {self._robots!r})"

    async def close(self) -> None:
        """Closes what is still open."""
        self._names.close()
        await self._transport.aclose()

    def check(self, uri: str) -> str:
        """Refuses what is no URL of a host, and credentials in it."""
        try:
            url = httpx.URL(uri)
        except (httpx.InvalidURL, ValueError) as error:
            return f"it is no URL: {error}"
        if url.scheme not in _PORTS or not url.host:
            return "a page's URI has the form https://host/path"
        if url.port is not None and not 0 < url.port < 65536:
            return f"there is no port {url.port}"
        return "a name and a password in a URL are not sent; leave them out" if url.userinfo else ""

    async def pages(self, uri: str, cursor: str) -> AsyncIterator[Page]:
        """The page itself; links are not followed."""
        yield Page((uri,))

    async def fetch(self, uri: str, tag: Tag) -> Fetched | None:
        """The page, behind its redirects."""
        headers = {"Accept": _ACCEPT}
        if tag.etag:
            headers["If-None-Match"] = tag.etag
        if tag.last_modified:
            headers["If-Modified-Since"] = tag.last_modified
        answer = await self._follow(uri, headers, self._max_bytes, robots=self._settings.robots)
        if answer.status == httpx.codes.NOT_MODIFIED and tag:
            return None
        _require_content(uri, answer)
        found = Tag(_sendable(answer.headers.get("ETag", "")), _sendable(answer.headers.get("Last-Modified", "")))
        return Fetched(answer.content, _media_type(uri, answer.headers.get("Content-Type", "")), found)

    async def _robots_txt(self, origin: str) -> str:
        answer = await self._follow(f"{origin}/robots.txt", {}, ROBOTS_BYTES, robots=False, cut=True)
        if answer.status >= httpx.codes.INTERNAL_SERVER_ERROR or answer.status in _AWAY:
            raise _away(f"{origin}/robots.txt", answer)
        return answer.content.decode(errors="replace") if answer.status == httpx.codes.OK else ""

    async def _follow(
        self, uri: str, headers: dict[str, str], max_bytes: int, *, robots: bool, cut: bool = False
    ) -> _Answer:
        url = httpx.URL(uri).copy_with(fragment=None)
        for _ in range(self._settings.max_redirects + 1):
            if why := self.check(str(url)):
                raise unreadable("REDIRECT_NOT_ALLOWED", f"{uri} leads to {url}: {why}")
            origin = f"{url.scheme}://{url.netloc.decode()}"
            delay_s = await self._robots.check(origin, str(url)) if robots else 0.0
            async with self._turns.take(url.host, min(delay_s, self._settings.max_crawl_delay_s)):
                answer = await self._get(url, headers, max_bytes, cut=cut)
            location = answer.headers.get("Location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return answer
            url = _joined(uri, url, location)
        raise unreadable(
            "TOO_MANY_REDIRECTS", f"{uri} redirects over {self._settings.max_redirects} times; name its last address"
        )

    async def _get(self, url: httpx.URL, headers: dict[str, str], max_bytes: int, *, cut: bool) -> _Answer:
        """One request to an address that was checked; the name is not resolved a second time."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                # The name as it goes over the wire: there are two ways to write one beyond ASCII, with two addresses.
                host = url.raw_host.decode()
                address = await self._names.resolve(host, url.port or _PORTS[url.scheme])
                own = {"Host": url.netloc.decode(), "User-Agent": self._settings.user_agent, "Accept-Encoding": "gzip"}
                timeouts = {"connect": self._settings.connect_timeout_s, "pool": self._settings.timeout_s}
                request = httpx.Request(
                    "GET",
                    url.copy_with(host=str(address)),
                    headers=own | headers,
                    extensions={"sni_hostname": host, "timeout": timeouts},
                )
                response = await self._transport.handle_async_request(request)
                try:
                    content = await _body(response, url, max_bytes, cut=cut)
                finally:
                    with contextlib.suppress(httpx.TransportError):
                        await response.aclose()
        except TimeoutError:
            limit_s = self._settings.timeout_s
            raise SourceAway("SOURCE_SLOW", f"{url} took over {limit_s:g} s; try again, or allow more") from None
        except (httpx.TransportError, httpx.StreamError) as error:
            why = str(error) or type(error).__name__
            raise SourceAway("SOURCE_AWAY", f"{url} does not answer: {why}; try again") from error
        return _Answer(response.status_code, response.headers, content)


async def _body(response: httpx.Response, url: httpx.URL, max_bytes: int, *, cut: bool) -> bytes:
    """The body, unpacked; `cut` leaves out what is over the bound, which is a failure otherwise."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", ""):
        raise unreadable("ENCODING_UNKNOWN", f"{url} comes packed as {encoding}, though gzip was asked for")
    packed = zlib.decompressobj(_GZIP) if "gzip" in encoding else None
    content, read = bytearray(), False
    async for part in response.stream:  # type: ignore[union-attr] # an asynchronous transport's stream is one
        # A packed part of a few bytes can hold megabytes: no more than fits is unpacked.
        room, read = max_bytes + 1 - len(content), True
        if packed and packed.eof:
            # Nothing belongs behind the packed body, and what came there would be kept without a bound.
            break
        try:
            content += packed.decompress(part, room) if packed else part[:room]
        except zlib.error as error:
            raise unreadable("ENCODING_BROKEN", f"{url} is not packed as it says: {error}; ask its owner") from error
        if len(content) > max_bytes:
            if cut:
                return bytes(content[:max_bytes])
            raise too_large("DOCUMENT_TOO_LARGE", f"{url} is over the limit of {max_bytes:,} bytes; split it")
    if packed and read and not packed.eof:
        raise unreadable("ENCODING_BROKEN", f"{url} ends before what is packed in it does; ask its owner")
    return bytes(content)


def _joined(uri: str, url: httpx.URL, location: str) -> httpx.URL:
    try:
        return url.join(location).copy_with(fragment=None)
    except (httpx.InvalidURL, ValueError) as error:
        raise unreadable("REDIRECT_NOT_ALLOWED", f"{uri} leads to no URL: {location[:200]!r}") from error


def _require_content(uri: str, answer: _Answer) -> None:
    if answer.status == httpx.codes.OK:
        return
    if answer.status >= httpx.codes.INTERNAL_SERVER_ERROR or answer.status in _AWAY:
        raise _away(uri, answer)
    phrase = httpx.codes.get_reason_phrase(answer.status)
    raise unreadable(f"HTTP_{answer.status}", f"{uri} answers {answer.status} {phrase}; check the address")


def _away(uri: str, answer: _Answer) -> SourceAway:
    return SourceAway(
        "SOURCE_AWAY",
        f"{uri} answers {answer.status} {httpx.codes.get_reason_phrase(answer.status)}; try again later",
        _retry_after_s(answer.headers),
    )


def _retry_after_s(headers: httpx.Headers) -> float | None:
    """Seconds of Retry-After; as a date it counts from the answer's own Date, whatever the clock here says."""
    wanted = headers.get("Retry-After", "")
    if wanted.isdecimal():
        return float(wanted)
    try:
        return (parsedate_to_datetime(wanted) - parsedate_to_datetime(headers["Date"])).total_seconds()
    except (KeyError, ValueError, TypeError):
        return None


def _sendable(header: str) -> str:
    """A header that can be sent back; one beyond ASCII cannot, and tells nothing then."""
    return header if header.isascii() else ""


def _media_type(uri: str, given: str) -> str:
    """The page's own word, unless it is the word of a server that does not know: then the ending tells more."""
    kind = given.split(";", 1)[0].strip().lower()
    if kind in ("text/plain", "application/octet-stream", "binary/octet-stream"):
        path = httpx.URL(uri).path.lower()
        if kind != "text/plain" or path.endswith(ENDINGS):
            return ""
    return given.strip()
