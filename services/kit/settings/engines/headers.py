"""Headers and keys that an operator sets for a server: what would break a request out of its frame is refused."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

HEADERS_LIMIT = 64
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_VALUE = re.compile(r"[\x20-\x7e]{0,8192}")
# Each request has its own.
_FRAMING = frozenset({"connection", "content-length", "te", "trailer", "transfer-encoding", "upgrade"})


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header")
        if name.lower() in _FRAMING:
            raise ValueError(f"{name} is set with each request and cannot be set here")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"the value of {name} has to be printable ASCII without line breaks")
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("a header is there twice: capitals do not tell names apart")
    return headers


def _check_key(key: SecretStr) -> SecretStr:
    if not _VALUE.fullmatch(key.get_secret_value()):
        raise ValueError("a key has to be printable ASCII; does a line break stand at its end?")
    return key


Headers = Annotated[dict[str, str], Field(max_length=HEADERS_LIMIT), AfterValidator(_check_headers)]
Key = Annotated[SecretStr, AfterValidator(_check_key)]
