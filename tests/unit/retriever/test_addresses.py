"""Which addresses are fetched from, however they are written."""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from services.retriever.failure import IngestFailure
from services.retriever.sources.addresses import Resolver, is_allowed
from services.retriever.sources.source import SourceAway

REFUSED = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fec0::1",
    "192.0.0.8",
    "3fff::1",
    "fc00::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
]


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not is_allowed(ipaddress.ip_address(address), [])


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address), [])


@pytest.mark.parametrize(
    ("address", "network", "allowed"),
    [
        ("10.1.2.3", "10.1.0.0/16", True),
        ("10.2.2.3", "10.1.0.0/16", False),
        ("::ffff:10.1.2.3", "10.1.0.0/16", True),
        ("fc00::1", "fc00::/7", True),
        ("127.0.0.1", "fc00::/7", False),
    ],
)
def test_networks_of_the_settings_are_allowed(address: str, network: str, allowed: bool) -> None:
    assert is_allowed(ipaddress.ip_address(address), [ipaddress.ip_network(network)]) == allowed


@pytest.fixture
def names() -> Iterator[Resolver]:
    found = Resolver([])
    yield found
    found.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "::1"])
async def test_hosts_that_stand_for_this_machine_are_refused(names: Resolver, host: str) -> None:
    with pytest.raises(IngestFailure) as caught:
        await names.resolve(host, 80)
    assert caught.value.reason == "ADDRESS_NOT_ALLOWED"
    assert "allowed_networks" in caught.value.message


async def test_a_name_without_address_may_have_one_later(names: Resolver) -> None:
    with pytest.raises(SourceAway) as caught:
        await names.resolve("nowhere.invalid", 80)
    assert caught.value.reason == "NAME_UNKNOWN"


async def test_silent_name_servers_hold_up_nothing_else(names: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def silent(*_: Any, **__: Any) -> Any:
        answered.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    asking = [asyncio.create_task(names.resolve(f"{n}.test", 80)) for n in range(64)]
    try:
        async with asyncio.timeout(20):
            assert await asyncio.to_thread(lambda: "served")
    finally:
        answered.set()
    assert all(isinstance(one, SourceAway) for one in await asyncio.gather(*asking, return_exceptions=True))
