"""Finds documents whose texts are nearly the same, by MinHash signatures in bands (LSH), kept on disk by index."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from sqlalchemy import Connection, delete, insert, select

from services.retriever.jobs.database import BANDS, SIGNATURES, Database

SIGNATURE_BYTES = 512
# With 16 bands of 8 values, a pair as alike as 0.85 is found with 99 of 100 chances, and one of 0.5 with 6.
_BANDS = 16
_BAND_BYTES = SIGNATURE_BYTES // _BANDS
_KEY_BYTES = 8
# Documents that share a band and are compared in full: bounds the time that a much repeated page takes.
_MAX_COMPARED = 256
_MAX_ANSWERS = 8


@dataclass(slots=True)
class Claim:
    """A document that is being ingested, and those that were there before it and are nearly the same, best first.

    `keep` says that the document is now in the index; without it, its signature is as it was before.
    """

    twins: tuple[str, ...] = ()
    kept: bool = False

    def keep(self) -> None:
        """The document is in the index."""
        self.kept = True


@dataclass(slots=True)
class _UnderWay:
    number: int
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Twins:
    """Signatures by index and document; those of documents that are gone are dropped when they are met (`forget`)."""

    def __init__(self, database: Database, similarity: float) -> None:
        self._database = database
        self._similarity = similarity
        self._numbers = count()
        self._under_way: dict[tuple[str, str], _UnderWay] = {}

    def __repr__(self) -> str:
        return f"Twins({self._similarity:g} under_way={len(self._under_way)})"

    @contextlib.asynccontextmanager
    async def claim(self, index: str, document_id: str, signature: bytes) -> AsyncIterator[Claim]:
        """Holds the document's place while it is ingested, so that of two twins at once one sees the other.

        The caller must not claim one document twice at a time. An empty signature claims nothing and finds nothing.
        """
        claim = Claim()
        if len(signature) != SIGNATURE_BYTES:
            yield claim
            if claim.kept:
                await self.forget(index, document_id)
            return
        key, mine = (index, document_id), _UnderWay(next(self._numbers))
        self._under_way[key] = mine
        before: bytes | None = None
        try:
            twins, before = await self._database.do(lambda c: self._enter(c, index, document_id, signature))
            claim.twins = twins
            await self._settled(index, twins, mine.number)
            yield claim
        finally:
            try:
                if not claim.kept:
                    await asyncio.shield(self._database.do(lambda c: _put(c, index, document_id, before)))
            finally:
                del self._under_way[key]
                mine.over.set()

    async def forget(self, index: str, document_id: str) -> None:
        """Drops a document's signature, unless it is being ingested."""
        if (index, document_id) not in self._under_way:
            await self._database.do(lambda connection: _put(connection, index, document_id, None))

    async def forget_index(self, index: str) -> None:
        """Drops the signatures of an index that is gone."""

        def work(connection: Connection) -> None:
            for table in (BANDS, SIGNATURES):
                connection.execute(delete(table).where(table.c.index_name == index))

        await self._database.do(work)

    async def _settled(self, index: str, twins: tuple[str, ...], number: int) -> None:
        """Waits for twins that began before; those that began later wait for this one, so no two wait in a ring."""
        for twin in twins:
            other = self._under_way.get((index, twin))
            if other and other.number < number:
                await other.over.wait()

    def _enter(
        self, connection: Connection, index: str, document_id: str, signature: bytes
    ) -> tuple[tuple[str, ...], bytes | None]:
        before = _signature(connection, index, document_id)
        shared = (BANDS.c.index_name == index) & BANDS.c.band.in_(_bands(signature))
        query = select(BANDS.c.document_id).where(shared).distinct().limit(_MAX_COMPARED)
        ids = connection.execute(query).scalars().all()
        chosen = (SIGNATURES.c.index_name == index) & SIGNATURES.c.document_id.in_(ids)
        rows = connection.execute(select(SIGNATURES).where(chosen)) if ids else ()
        found = [
            (similarity(signature, row.signature), row.document_id) for row in rows if row.document_id != document_id
        ]
        _put(connection, index, document_id, signature)
        best = sorted((-alike, twin) for alike, twin in found if alike >= self._similarity)[:_MAX_ANSWERS]
        return tuple(twin for _, twin in best), before


def similarity(one: bytes, other: bytes) -> float:
    """The share of common shingles that two signatures tell, 0 to 1."""
    return float(np.mean(np.frombuffer(one, "<u4") == np.frombuffer(other, "<u4")))


def _bands(signature: bytes) -> list[bytes]:
    parts = (signature[at : at + _BAND_BYTES] for at in range(0, SIGNATURE_BYTES, _BAND_BYTES))
    return [bytes([band]) + hashlib.blake2b(part, digest_size=_KEY_BYTES).digest() for band, part in enumerate(parts)]


def _signature(connection: Connection, index: str, document_id: str) -> bytes | None:
    here = (SIGNATURES.c.index_name == index) & (SIGNATURES.c.document_id == document_id)
    found: bytes | None = connection.execute(select(SIGNATURES.c.signature).where(here)).scalar()
    return found


def _put(connection: Connection, index: str, document_id: str, signature: bytes | None) -> None:
    """Makes this the document's signature; None leaves it without."""
    place = {"index_name": index, "document_id": document_id}
    if before := _signature(connection, index, document_id):
        if before == signature:
            return
        mine = (BANDS.c.index_name == index) & BANDS.c.band.in_(_bands(before))
        connection.execute(delete(BANDS).where(mine, BANDS.c.document_id == document_id))
        here = (SIGNATURES.c.index_name == index) & (SIGNATURES.c.document_id == document_id)
        connection.execute(delete(SIGNATURES).where(here))
    if signature:
        connection.execute(insert(SIGNATURES).values(**place, signature=signature))
        connection.execute(insert(BANDS), [{**place, "band": band} for band in _bands(signature)])
