"""Web pages from a real server: what is fetched, what is left alone, and what is never followed."""

import asyncio
import gzip
import socket
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.kit.clock import monotonic_s
from services.kit.settings.ingest import HttpSourceSettings
from services.retriever.failure import IngestFailure
from services.retriever.jobs.job import Tag
from services.retriever.sources.http import HttpSource
from services.retriever.sources.source import Fetched, SourceAway
from tests.fakes.site import Page, Site


@asynccontextmanager
async def source(max_bytes: int = 100_000, **settings: Any) -> AsyncIterator[HttpSource]:
    own = {"allowed_networks": ["127.0.0.0/8"], "delay_s": 0.0} | settings
    found = HttpSource(HttpSourceSettings(**own), max_bytes, monotonic_s)
    try:
        yield found
    finally:
        await found.close()


async def fetched(site: Site, path: str, tag: Tag | None = None, **settings: Any) -> Fetched | None:
    async with source(**settings) as http:
        return await http.fetch(site.url(path), tag or Tag())


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as found:
        yield found


async def test_a_page_comes_with_its_type_and_its_tag(site: Site) -> None:
    headers = {"Content-Type": "text/html; charset=latin-1", "Last-Modified": "Tue, 01 Sep 2026 10:00:00 GMT"}
    site.pages["/a"] = Page(b"<p>gr\xfc\xdfe</p>", headers=headers, etag='W/"x"')
    tag = Tag('W/"x"', "Tue, 01 Sep 2026 10:00:00 GMT")
    assert await fetched(site, "/a") == Fetched(b"<p>gr\xfc\xdfe</p>", "text/html; charset=latin-1", tag)
    assert await fetched(site, "/a", tag) is None
    assert site.headers[-1]["If-Modified-Since"] == tag.last_modified
    assert site.headers[-1]["Host"] == f"127.0.0.1:{site.port}"
    assert "Cookie" not in site.headers[-1]


@pytest.mark.parametrize(
    ("path", "given", "found"),
    [
        ("/a.md", "text/plain; charset=utf-8", ""),
        ("/a", "text/plain", "text/plain"),
        ("/a.pdf", "application/octet-stream", ""),
        ("/a.pdf", "text/html", "text/html"),
        ("/a", "", ""),
    ],
)
async def test_the_servers_word_counts_unless_it_does_not_know(site: Site, path: str, given: str, found: str) -> None:
    site.pages[path] = Page(b"x", headers={"Content-Type": given} if given else {})
    answer = await fetched(site, path)
    assert answer is not None
    assert answer.media_type == found


async def test_packed_pages_are_unpacked_within_the_bound(site: Site) -> None:
    site.pages["/a"] = Page(gzip.compress(b"x" * 5000), headers={"Content-Encoding": "gzip"})
    answer = await fetched(site, "/a")
    assert answer is not None
    assert answer.content == b"x" * 5000
    site.pages["/bomb"] = Page(gzip.compress(b"\0" * 5_000_000), headers={"Content-Encoding": "gzip"})
    site.pages["/large"] = Page(b"x" * 100_001)
    site.pages["/br"] = Page(b"x", headers={"Content-Encoding": "br"})
    site.pages["/broken"] = Page(b"x", headers={"Content-Encoding": "gzip"})
    reasons = {}
    for path in ("/bomb", "/large", "/br", "/broken"):
        with pytest.raises(IngestFailure) as caught:
            await fetched(site, path)
        reasons[path] = caught.value.reason
    assert reasons == {
        "/bomb": "DOCUMENT_TOO_LARGE",
        "/large": "DOCUMENT_TOO_LARGE",
        "/br": "ENCODING_UNKNOWN",
        "/broken": "ENCODING_BROKEN",
    }


async def test_redirects_are_followed_to_their_end(site: Site) -> None:
    site.pages["/a"] = Page(status=302, headers={"Location": "/b#part"})
    site.pages["/b"] = Page(status=308, headers={"Location": site.url("/c")})
    site.pages["/c"] = Page(b"found")
    answer = await fetched(site, "/a")
    assert answer is not None
    assert answer.content == b"found"
    site.pages["/c"] = Page(status=301, headers={"Location": "/a"})
    with pytest.raises(IngestFailure) as caught:
        await fetched(site, "/a")
    assert caught.value.reason == "TOO_MANY_REDIRECTS"


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.2:1/", "ADDRESS_NOT_ALLOWED"),
        ("http://2130706434:1/", "ADDRESS_NOT_ALLOWED"),
        ("http://[::ffff:127.0.0.2]:1/", "ADDRESS_NOT_ALLOWED"),
        ("http://169.254.169.254/latest/meta-data/", "ADDRESS_NOT_ALLOWED"),
        ("file:///etc/passwd", "REDIRECT_NOT_ALLOWED"),
        ("ftp://example.org/", "REDIRECT_NOT_ALLOWED"),
        ("http://user:secret@127.0.0.1/", "REDIRECT_NOT_ALLOWED"),
        ("http://127.0.0.1:999999/", "REDIRECT_NOT_ALLOWED"),
    ],
)
async def test_redirects_that_lead_astray_are_not_followed(site: Site, location: str, reason: str) -> None:
    site.pages["/a"] = Page(status=302, headers={"Location": location})
    with pytest.raises(IngestFailure) as caught:
        await fetched(site, "/a", allowed_networks=["127.0.0.1/32"])
    assert caught.value.reason == reason


async def test_private_addresses_are_refused_unless_they_are_allowed(site: Site) -> None:
    site.pages["/a"] = Page(b"secret")
    for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
        async with source(allowed_networks=[]) as http:
            with pytest.raises(IngestFailure) as caught:
                await http.fetch(site.url("/a", host), Tag())
        assert caught.value.reason == "ADDRESS_NOT_ALLOWED"
    assert site.asked == {}


async def test_a_name_is_resolved_once_and_the_address_connected_to(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that gives a public address to the check and a private one to the connection gains nothing."""
    site.pages["/a"] = Page(b"x")
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if host == "rebinding.test" else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with source(robots=False) as http:
        answer = await http.fetch(site.url("/a", "rebinding.test"), Tag())
    assert answer is not None
    assert asked.count("rebinding.test") == 1
    assert site.headers[-1]["Host"] == f"rebinding.test:{site.port}"


async def test_robots_txt_is_asked_once_and_honoured(site: Site) -> None:
    site.pages["/robots.txt"] = Page(b"User-agent: weft-ingest\nDisallow: /private\nCrawl-delay: 0\n")
    site.pages["/private/a"] = site.pages["/b"] = site.pages["/c"] = Page(b"x")
    async with source() as http:
        with pytest.raises(IngestFailure) as caught:
            await http.fetch(site.url("/private/a"), Tag())
        assert caught.value.reason == "ROBOTS_FORBID"
        await http.fetch(site.url("/b"), Tag())
        await http.fetch(site.url("/c"), Tag())
    assert site.asked == {"/robots.txt": 1, "/b": 1, "/c": 1}
    assert await fetched(site, "/private/a", robots=False) is not None


async def test_pages_that_come_at_once_ask_for_robots_txt_once(site: Site) -> None:
    for n in range(6):
        site.pages[f"/{n}"] = Page(b"x")
    async with source(per_host=6) as http:
        await asyncio.gather(*(http.fetch(site.url(f"/{n}"), Tag()) for n in range(6)))
    assert site.asked["/robots.txt"] == 1


async def test_a_site_whose_robots_txt_is_away_is_left_alone_for_now(site: Site) -> None:
    site.pages["/robots.txt"] = Page(status=503)
    site.pages["/a"] = Page(b"x")
    with pytest.raises(SourceAway):
        await fetched(site, "/a")
    assert site.asked == {"/robots.txt": 1}


async def test_few_requests_go_to_one_host_at_once(site: Site) -> None:
    gate = threading.Event()
    for n in range(6):
        site.pages[f"/{n}"] = Page(b"x", gate=gate)
    async with source(per_host=2, robots=False) as http:
        fetching = asyncio.gather(*(http.fetch(site.url(f"/{n}"), Tag()) for n in range(6)))
        while site.asked.total() < 2:
            await asyncio.sleep(0.01)
        gate.set()
        await fetching
    assert site.most_at_once == 2


async def test_requests_to_one_host_keep_their_distance(site: Site) -> None:
    site.pages["/a"] = Page(b"x")
    started_s = monotonic_s()
    async with source(delay_s=0.1, robots=False) as http:
        await asyncio.gather(*(http.fetch(site.url("/a"), Tag()) for _ in range(4)))
    assert monotonic_s() - started_s >= 0.3


@pytest.mark.parametrize(("status", "headers", "after_s"), [(503, {}, None), (429, {"Retry-After": "7"}, 7.0)])
async def test_answers_that_may_change_say_when(
    site: Site, status: int, headers: dict[str, str], after_s: float | None
) -> None:
    site.pages["/a"] = Page(status=status, headers=headers)
    with pytest.raises(SourceAway) as caught:
        await fetched(site, "/a")
    assert caught.value.retry_after_s == after_s


async def test_a_server_that_is_silent_or_gone_is_away(site: Site) -> None:
    site.pages["/a"] = Page(gate=threading.Event())
    with pytest.raises(SourceAway) as slow:
        await fetched(site, "/a", timeout_s=0.2, robots=False)
    assert slow.value.reason == "SOURCE_SLOW"
    async with source(robots=False) as http:
        with pytest.raises(SourceAway) as gone:
            await http.fetch("http://127.0.0.1:1/", Tag())
    assert gone.value.reason == "SOURCE_AWAY"


async def test_what_comes_behind_a_packed_page_is_left_unread(site: Site) -> None:
    site.pages["/a"] = Page(gzip.compress(b"swan") + b"y" * 20_000_000, headers={"Content-Encoding": "gzip"})
    tracemalloc.start()
    try:
        answer = await fetched(site, "/a")
        most_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer is not None
    assert answer.content == b"swan"
    assert most_bytes < 10_000_000


async def test_a_tag_beyond_ascii_is_not_sent_back(site: Site) -> None:
    site.pages["/a"] = Page(b"swan", headers={"ETag": '"\xe9"', "Last-Modified": "\xe9"})
    answer = await fetched(site, "/a")
    assert answer is not None
    assert answer.tag == Tag()
