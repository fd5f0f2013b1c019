"""A model file that proves itself whole: its own SHA-256 stands at its end, in a form that ONNX readers accept."""

import hashlib
import os
import tempfile
from pathlib import Path

# ModelProto.metadata_props (field 14) with the key `sha256` and a value of 64 characters. Bytes that are appended to a
# message are merged into it, so the sealed file is an ordinary ONNX model with one more property.
_LABEL = b"\x72\x4a\x0a\x06sha256\x12\x40"
_SEAL_BYTES = len(_LABEL) + 64


def write_sealed(path: Path, body: bytes) -> None:
    """Writes the file whole or not at all: readers see the old content or the new, never a part."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path))
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body + _seal(body))
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_sealed(path: Path) -> bytes | None:
    """The model's bytes, or None where the file is missing, cut short or changed."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return content if content[-_SEAL_BYTES:] == _seal(memoryview(content)[:-_SEAL_BYTES]) else None


def temporary_prefix(path: Path) -> str:
    """What the names of this file's unfinished copies begin with."""
    return f".{path.name}."


def _seal(body: bytes | memoryview) -> bytes:
    return _LABEL + hashlib.sha256(body).hexdigest().encode()
