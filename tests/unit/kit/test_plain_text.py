"""Which addresses lie on this machine."""

import pytest

from services.kit.plain_text import is_in_the_open


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("http://127.0.0.1:8000/v1", False, id="loopback"),
        pytest.param("http://127.8.9.10", False, id="another-loopback"),
        pytest.param("http://LOCALHOST:8000", False, id="name"),
        pytest.param("http://[::1]:8000", False, id="ipv6"),
        pytest.param("https://gpu-1:8000", False, id="tls"),
        pytest.param("127.0.0.1:8001", False, id="grpc-loopback"),
        pytest.param("[::1]:8001", False, id="grpc-ipv6"),
        pytest.param("localhost:8001", False, id="grpc-name"),
        pytest.param("unix:/run/triton.sock", False, id="socket"),
        pytest.param("http://gpu-1:8000", True, id="elsewhere"),
        pytest.param("http://10.0.0.1", True, id="address"),
        pytest.param("http://127.0.0.1.example.org", True, id="looks-like-loopback"),
        pytest.param("127.0.0.1.example.org:8001", True, id="grpc-looks-like-loopback"),
        pytest.param("http://localhost.example.org", True, id="looks-like-the-name"),
        pytest.param("http://0.0.0.0:8000", True, id="any"),
        pytest.param("gpu-1:8001", True, id="grpc-elsewhere"),
        pytest.param("dns:///gpu-1:8001", True, id="grpc-scheme"),
        pytest.param("dns:localhost:8001", False, id="grpc-short-scheme"),
        pytest.param("dns:///localhost:8001", False, id="grpc-scheme-local"),
        pytest.param("dns:///[::1]:8001", False, id="grpc-scheme-ipv6"),
        pytest.param("ipv4:127.0.0.1:8001", False, id="grpc-ipv4"),
        pytest.param("ipv4:127.0.0.1:8001,10.0.0.1:8001", True, id="grpc-several"),
        pytest.param("unix-abstract:triton", False, id="abstract-socket"),
        pytest.param("dns://127.0.0.1/gpu-1:8001", True, id="local-dns-server"),
        pytest.param("dns://localhost:53/gpu-1:8001", True, id="local-dns-server-with-port"),
        pytest.param("127.0.0.1/gpu-1:8001", True, id="grpc-path"),
        pytest.param("xds://127.0.0.1/gpu-1", True, id="another-scheme"),
        pytest.param("http://127.0.0.1@gpu-1", True, id="looks-like-a-user"),
        pytest.param("http://localhost.:8000", False, id="name-with-its-dot"),
        pytest.param("http://[::ffff:127.0.0.1]:8000", False, id="mapped"),
        pytest.param("http://[::ffff:10.0.0.1]:8000", True, id="mapped-elsewhere"),
        pytest.param("HTTPS://gpu-1", False, id="tls-in-capitals"),
        pytest.param("http://[::1", True, id="broken"),
    ],
)
def test_who_could_read_it(url: str, expected: bool) -> None:
    assert is_in_the_open(url) is expected
