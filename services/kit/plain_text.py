"""Where keys may go without TLS: to this machine alone. It looks no name up, since a name can point anywhere."""

import ipaddress
from urllib.parse import urlsplit


def is_local(host: str) -> bool:
    """Whether a host, without a port, is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    host = host.strip("[]").lower()
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_in_the_open(url: str) -> bool:
    """Whether what is sent to an http:// or https:// address, or in plain text to host:port, can be read on the way."""
    if url.startswith("unix:"):
        return False
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
    except ValueError:
        # What cannot be read as an address is no address of this machine.
        return True
    return parts.scheme != "https" and not is_local(parts.hostname or "")
