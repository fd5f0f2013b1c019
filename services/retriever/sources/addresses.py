"""Which network addresses may be fetched from: public ones, and those that the settings name."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from services.retriever.failure import unreadable
from services.retriever.sources.source import SourceAway

# Names that are asked for at once.
_THREADS = 8

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Addresses of IPv6 that stand for one of IPv4 in their last 32 bits: translated (RFC 6052), and compatible (RFC 4291).
_CARRIERS = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
# What the standard library takes for public: local translation (RFC 8215), the site-local addresses of old, and
# networks for protocols (RFC 6890) and documentation (RFC 9637).
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "fec0::/10", "192.0.0.0/24", "3fff::/20")))


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether the address, and each that it stands for, is public or lies in one of the allowed networks."""
    if _is_in(address, allowed):
        return True
    if inner := _carried(address):
        return is_allowed(inner, allowed)
    public = address.is_global and not address.is_multicast and not address.is_reserved
    return public and not _is_in(address, _NOT_PUBLIC)


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _carried(address: Address) -> ipaddress.IPv4Address | None:
    if not isinstance(address, ipaddress.IPv6Address) or address.is_loopback or address.is_unspecified:
        return None
    if found := address.ipv4_mapped or address.sixtofour:
        return found
    if address.teredo:
        return address.teredo[1]
    if any(address in network for network in _CARRIERS):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


class Resolver:
    """Gives addresses that may be connected to. It has threads of its own, since a silent name server holds one for
    long, and nothing else should wait for that. `close` after use.
    """

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="resolve")

    def __repr__(self) -> str:
        return f"Resolver({len(self._allowed)} networks allowed)"

    async def resolve(self, host: str, port: int) -> Address:
        """An address of the host; the caller connects to it, and never asks for the name again.

        Raises IngestFailure where one of its addresses is not allowed, and SourceAway where the name has none now.
        """
        asking = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, asking)
        except (socket.gaierror, UnicodeError) as error:
            raise SourceAway("NAME_UNKNOWN", f"{host} has no address now: {error}; check its name") from error
        # A zone such as %eth0 names a local link.
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        # A name with both kinds of addresses is a trap or a mistake: all of them must be allowed.
        for address in addresses:
            if not is_allowed(address, self._allowed):
                raise unreadable(
                    "ADDRESS_NOT_ALLOWED",
                    f"{host} is at {address}, which is no public address; "
                    "name its network in the setting retriever.ingest.http.allowed_networks to allow it",
                )
        return addresses[0]

    def close(self) -> None:
        """Waits for no name server."""
        self._threads.shutdown(wait=False, cancel_futures=True)
