"""A real S3 server (moto's) for a test.

All of moto's servers in one process share their objects, so each starts empty.
"""

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer


@contextmanager
def s3_server() -> Iterator[str]:
    """Yields the endpoint of a server without buckets, on loopback."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        urllib.request.urlopen(f"{endpoint}/moto-api/reset", data=b"", timeout=10).close()
        yield endpoint
    finally:
        server.stop()
