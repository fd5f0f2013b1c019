"""Objects of S3-compatible stores, through obstore: one object, or all documents below a prefix."""

import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotFoundError,
    NotModifiedError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from services.kit.settings.ingest import S3SourceSettings
from services.retriever.failure import IngestFailure, too_large, unreadable
from services.retriever.jobs.job import Tag
from services.retriever.sources.source import Fetched, Page, SourceAway
from services.retriever.sources.wanted import is_wanted_file, is_wanted_folder

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, S3Config

_PAGE = 500
_MAX_BUCKETS = 64
_MAX_MESSAGE_CHARS = 300
# What any store takes for a bucket's name; other signs would change the meaning of the request's URL.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_UNKNOWN_TYPES = ("binary/octet-stream", "application/octet-stream")


class S3Source:
    """s3://bucket/key and s3://bucket/prefix; implements the port Source. Keys stand in URIs as they are."""

    def __init__(self, settings: S3SourceSettings, max_bytes: int) -> None:
        self._settings = settings
        self._max_bytes = max_bytes
        self._stores: OrderedDict[str, S3Store] = OrderedDict()

    def __repr__(self) -> str:
        return f"S3Source({self._settings.endpoint or self._settings.region} {len(self._stores)} buckets)"

    def check(self, uri: str) -> str:
        """Refuses what names no bucket, or one that the settings do not name."""
        bucket, _ = _parts(uri)
        if not _BUCKET.fullmatch(bucket):
            return "an object's URI has the form s3://bucket/key"
        if self._settings.buckets and bucket not in self._settings.buckets:
            return f"the bucket {bucket} is not in the setting retriever.ingest.s3.buckets"
        return ""

    async def pages(self, uri: str, cursor: str) -> AsyncIterator[Page]:
        """The object of that key, or the documents below the prefix, by key; `cursor` is the last key seen."""
        bucket, key = _parts(uri)
        if key and not key.endswith("/") and not cursor and await self._is_object(uri, bucket, key):
            yield Page((uri,))
            return
        nothing = not cursor
        try:
            listing = obstore.list(self._store(bucket), key or None, offset=cursor or None, chunk_size=_PAGE)
            async for objects in listing:
                keys = [found["path"] for found in objects]
                nothing = nothing and not keys
                yield Page(tuple(f"s3://{bucket}/{name}" for name in keys if _is_wanted(name)), keys[-1])
        except (BaseError, OSError) as error:
            raise _problem(uri, error) from error
        if nothing:
            # Nothing is there: trying to fetch it says so.
            yield Page((uri,))

    async def fetch(self, uri: str, tag: Tag) -> Fetched | None:
        """The object's bytes."""
        bucket, key = _parts(uri)
        try:
            options: GetOptions = {"if_none_match": tag.etag} if tag.etag else {}
            found = await obstore.get_async(self._store(bucket), key, options=options)
            if found.meta["size"] > self._max_bytes:
                raise too_large("DOCUMENT_TOO_LARGE", f"{uri} is over the limit of {self._max_bytes:,} bytes; split it")
            content = bytes(await found.bytes_async())
        except NotModifiedError:
            return None
        except (BaseError, OSError) as error:
            raise _problem(uri, error) from error
        media_type = found.attributes.get("Content-Type", "")
        return Fetched(content, "" if media_type in _UNKNOWN_TYPES else media_type, Tag(found.meta["e_tag"] or ""))

    async def _is_object(self, uri: str, bucket: str, key: str) -> bool:
        try:
            await obstore.head_async(self._store(bucket), key)
        except (FileNotFoundError, NotFoundError):
            return False
        except (BaseError, OSError) as error:
            raise _problem(uri, error) from error
        return True

    def _store(self, bucket: str) -> S3Store:
        if bucket not in self._stores:
            self._stores[bucket] = self._new_store(bucket)
            while len(self._stores) > _MAX_BUCKETS:
                self._stores.popitem(last=False)
        self._stores.move_to_end(bucket)
        return self._stores[bucket]

    def _new_store(self, bucket: str) -> S3Store:
        own = self._settings
        config: S3Config = {"bucket": bucket, "region": own.region}
        client: ClientConfig = {"timeout": timedelta(seconds=own.timeout_s)}
        if own.endpoint:
            config["endpoint"] = own.endpoint
            client["allow_http"] = own.endpoint.startswith("http://")
        if own.access_key_id and own.secret_access_key:
            config["access_key_id"] = own.access_key_id.get_secret_value()
            config["secret_access_key"] = own.secret_access_key.get_secret_value()
            if own.session_token:
                config["session_token"] = own.session_token.get_secret_value()
        else:
            # Without it, keys would be looked for at the cloud's metadata address.
            config["skip_signature"] = True
        # Retries have one owner: the job.
        return S3Store(config=config, client_options=client, retry_config={"max_retries": 0})


def _parts(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _is_wanted(key: str) -> bool:
    *folders, name = key.split("/")
    return is_wanted_file(name) and all(map(is_wanted_folder, folders))


def _problem(uri: str, error: Exception) -> IngestFailure | SourceAway:
    if isinstance(error, FileNotFoundError | NotFoundError | InvalidPathError):
        return unreadable("OBJECT_NOT_FOUND", f"{uri} is not there; check bucket, key and region")
    if isinstance(error, PermissionError | PermissionDeniedError | UnauthenticatedError):
        return unreadable(
            "OBJECT_NOT_ALLOWED", f"{uri} may not be read with the keys of the settings retriever.ingest.s3; check them"
        )
    why = str(error).split("\n", 1)[0][:_MAX_MESSAGE_CHARS]
    return SourceAway("SOURCE_AWAY", f"{uri} cannot be read now: {why}; try again")
