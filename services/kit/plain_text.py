"""Where keys may go without TLS: to this machine alone. It looks no name up, since a name can point anywhere."""

import ipaddress
import re
from urllib.parse import urlsplit

_SOCKETS = ("unix:", "unix-abstract:")
# A target of gRPC. What stands between // and the next / would be a DNS server, and not what is called.
_GRPC = re.compile(r"(?:dns:(?:///)?|ipv[46]:)?(\[[^\[\]]+\]|[^\[\]:/?#@]+)(?::[0-9]+)?")


def is_local(host: str) -> bool:
    """Whether a host, without a port, is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    host = host.strip("[]").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in ("localhost", "localhost.")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def is_this_machine(url: str) -> bool:
    """Whether an http:// or https:// address or a target of gRPC, such as host:port, leads to this machine alone.

    What cannot be read as one of these does not.
    """
    if url.startswith(_SOCKETS):
        return True
    if not url.lower().startswith(("http://", "https://")):
        target = _GRPC.fullmatch(url)
        return target is not None and is_local(target[1])
    try:
        return is_local(urlsplit(url).hostname or "")
    except ValueError:
        return False


def is_in_the_open(url: str) -> bool:
    """Whether what is sent to an http:// or https:// address, or in plain text to host:port, can be read on the way."""
    return not url.lower().startswith("https://") and not is_this_machine(url)


def proxy_options(target: str) -> list[tuple[str, int]]:
    """Options of a gRPC channel: what stays on this machine goes through no proxy that the environment names."""
    return [("grpc.enable_http_proxy", 0)] if is_this_machine(target) else []
