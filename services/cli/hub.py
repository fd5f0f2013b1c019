"""Downloads models from the Hugging Face hub: resumed where they broke off, and checked by hash before they count."""

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, and not in its __all__
from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no types, and the hub's client asks for a subclass

from services.cli.problem import Problem
from services.cli.pulled import models_dir

_BLOCK_BYTES = 8 * 1024 * 1024
_CONNECT_TIMEOUT_S = 10.0
# Beside the models, so that what is whole only has to be renamed.
_PARTIAL = ".partial"
_HEX = re.compile(r"[0-9a-f]*")
_REVISION = re.compile(r"[\w.-]+")
DEFAULT_ENDPOINT = "https://huggingface.co"

Advance = Callable[[float], None]
"""Hears of bytes that have come, negative where some were thrown away."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository. `sha256` is empty where the hub does not tell, which it does of all large files."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Repository:
    """What the hub has at one revision."""

    name: str
    revision: str
    files: tuple[RemoteFile, ...]

    def file(self, name: str) -> RemoteFile:
        """Raises KeyError where there is none."""
        return {file.name: file for file in self.files}[name]


class Hub:
    """One hub; without an endpoint, what HF_ENDPOINT names or the public one. A token comes from HF_TOKEN."""

    def __init__(self, endpoint: str = "") -> None:
        self.endpoint = endpoint or os.environ.get("HF_ENDPOINT", "") or DEFAULT_ENDPOINT

    def __repr__(self) -> str:
        return f"Hub({self.endpoint})"

    def look(self, repo: str) -> Repository:
        """What it has. Raises Problem."""
        try:
            info = HfApi(endpoint=self.endpoint).model_info(repo, files_metadata=True, timeout=_CONNECT_TIMEOUT_S)
        except Exception as error:
            raise self._problem(repo, error) from error
        files = [
            RemoteFile(one.rfilename, one.size or 0, one.lfs.sha256 if one.lfs else "") for one in info.siblings or ()
        ]
        revision = info.sha or "main"
        for file in files:
            # They become paths here, and a hub may be anybody's mirror.
            if not _is_inside(file.name) or not _HEX.fullmatch(file.sha256) or not _REVISION.fullmatch(revision):
                raise Problem(f"the hub at {self.endpoint} names a file of {repo} {file.name!r}: do not trust that hub")
        return Repository(repo, revision, tuple(files))

    def pull(self, repository: Repository, file: RemoteFile, data_dir: Path, advance: Advance) -> Path:
        """The file's path, downloaded unless it is there whole already. Raises Problem; what had come is kept then."""
        root = models_dir(data_dir)
        target = root / repository.name / file.name
        if target.is_file() and _is_whole(target, file):
            advance(file.size_bytes)
            return target
        # Named by hash too: what came of another revision is no beginning of this one.
        part = root / _PARTIAL / repository.name / f"{file.name}.{file.sha256[:12] or repository.revision[:12]}"
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as data:
            _lock(data, file)
            _check_space(root, file, data.tell())
            try:
                self._download(repository, file, data, advance)
            except Exception as error:
                raise self._problem(f"{repository.name}/{file.name}", error) from error
        if not _is_whole(part, file):
            part.unlink()
            raise Problem(
                f"{repository.name}/{file.name} came with another hash than the hub tells, so it was thrown away: "
                "try again, and if it happens again, do not trust what stands between you and the hub"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
        return target

    def _download(self, repository: Repository, file: RemoteFile, data: BinaryIO, advance: Advance) -> None:
        """Appends what is missing."""
        have = data.tell()
        if have >= file.size_bytes:
            advance(file.size_bytes)
            return
        http_get(
            hf_hub_url(repository.name, file.name, revision=repository.revision, endpoint=self.endpoint),
            data,
            resume_size=have,
            headers=build_hf_headers(),
            expected_size=file.size_bytes,
            displayed_filename=file.name,
            tqdm_class=_bar(advance),
        )

    def _problem(self, what: str, error: Exception) -> Problem:
        """What went wrong, and what to do."""
        if isinstance(error, GatedRepoError):
            return Problem(f"{what} is gated: accept its terms at {self.endpoint}/{what}, and set HF_TOKEN")
        if isinstance(error, RepositoryNotFoundError):
            return Problem(f"the hub has no {what}, or it is private: check the name, and set HF_TOKEN where it is")
        if isinstance(error, OfflineModeIsEnabled):
            return Problem("HF_HUB_OFFLINE is set, so nothing can be downloaded: unset it, or use a file with --model")
        if isinstance(error, EntryNotFoundError):
            return Problem(f"the hub has no {what}")
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            return Problem(f"the hub at {self.endpoint} failed with status {error.response.status_code}: try again")
        return Problem(
            f"the hub at {self.endpoint} cannot be reached, or broke off ({_first_line(error)}): what has come is "
            "kept, and the same command goes on from there; on a machine without a way to it, copy a GGUF file there "
            "and name it with --model FILE.gguf, or set HF_ENDPOINT to a mirror"
        )


def _is_inside(name: str) -> bool:
    """Whether a file of that name lies within its repository's folder."""
    return bool(name) and not any(part in ("", ".", "..") for part in name.split("/")) and name.isprintable()


def _first_line(error: Exception) -> str:
    cause = error.__cause__ or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]


def _lock(data: BinaryIO, file: RemoteFile) -> None:
    """Holds the file until it is closed."""
    try:
        fcntl.flock(data, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Problem(f"{file.name} is being downloaded by another command: wait for that one") from error


def _check_space(root: Path, file: RemoteFile, have_bytes: int) -> None:
    free = shutil.disk_usage(root).free
    if free < file.size_bytes - have_bytes:
        raise Problem(
            f"{file.name} has {file.size_bytes / 1e9:.1f} GB and {root} only {free / 1e9:.1f} GB left: "
            "make room, or choose another folder with --data-dir"
        )


def _is_whole(path: Path, file: RemoteFile) -> bool:
    """By hash where the hub tells it, and by size elsewhere."""
    if path.stat().st_size != file.size_bytes:
        return False
    return not file.sha256 or _sha256(path) == file.sha256


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as data:
        while block := data.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _bar(advance: Advance) -> type[tqdm]:
    """The hub's client reports to a class of progress bars; this one shows nothing and passes the numbers on."""

    class Silent(tqdm):  # type: ignore[misc]  # its base has no types
        """Only counts."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            begun = kwargs.get("initial") or 0
            super().__init__(*args, **{**kwargs, "disable": True})
            if begun:
                advance(begun)

        def update(self, n: float | None = 1) -> bool | None:
            advance(n or 0)
            return None

    return Silent
