"""What the store's process is asked and answers. Values only; they cross its pipe pickled."""

from dataclasses import dataclass

from services.retriever.document import Filter, Probe, Record, Spec, Vectored


@dataclass(frozen=True, slots=True)
class ListCollections:
    """Answer: dict[str, Counts]."""


@dataclass(frozen=True, slots=True)
class Create:
    """Makes a collection. Answer: None."""

    collection: str
    spec: Spec


@dataclass(frozen=True, slots=True)
class Drop:
    """Deletes a collection, if it is there. Answer: None."""

    collection: str


@dataclass(frozen=True, slots=True)
class FindRecord:
    """Answer: Record, or None where there is no such document."""

    collection: str
    document_id: str


@dataclass(frozen=True, slots=True)
class ListRecords:
    """Answer: list[Record], by id, from the one after `after`."""

    collection: str
    wanted: Filter
    after: str
    limit: int


@dataclass(frozen=True, slots=True)
class ReadChunks:
    """Answer: list[Vectored], by chunk id, from the one after `after`."""

    collection: str
    document_id: str
    after: str
    limit: int


@dataclass(frozen=True, slots=True)
class Add:
    """Keeps some chunks of a document unseen until its Commit. Answer: None."""

    collection: str
    record: Record
    chunks: tuple[Vectored, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """Keeps a document's last chunks and its record; on disk when answered. Answer: whether it replaced another."""

    collection: str
    record: Record
    chunks: tuple[Vectored, ...]


@dataclass(frozen=True, slots=True)
class Abandon:
    """Drops what was added of a document and never committed. Answer: None."""

    collection: str
    document_id: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes a document. Answer: its chunks. Refused where there is none."""

    collection: str
    document_id: str


@dataclass(frozen=True, slots=True)
class Search:
    """Answer: hits, best first, as `packing` writes them."""

    collection: str
    probe: Probe


@dataclass(frozen=True, slots=True)
class Flush:
    """Writes what is only in the log to its place, which keeps the next start short. Answer: None."""


@dataclass(frozen=True, slots=True)
class DueGraph:
    """Answer: the name of a collection that should get a graph; empty where there is none."""


@dataclass(frozen=True, slots=True)
class BeginGraph:
    """Notes from now on what changes. Answer: the folders of the shard to copy and of the copy.

    Nothing may be written to the collection until the copy is made.
    """

    collection: str


@dataclass(frozen=True, slots=True)
class FollowGraph:
    """Writes some of what has changed to the copy with its graph. Answer: whether it has caught up and taken over."""

    collection: str


@dataclass(frozen=True, slots=True)
class EndGraph:
    """Forgets a copy that came to nothing. Answer: None."""

    collection: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer where the operation cannot be done; `code` is a number of `google.rpc.Code`."""

    code: int
    reason: str
    message: str
    field: str = ""


Write = Add | Commit | Abandon | Delete
Operation = (
    ListCollections
    | Create
    | Drop
    | FindRecord
    | ListRecords
    | ReadChunks
    | Write
    | Search
    | Flush
    | DueGraph
    | BeginGraph
    | FollowGraph
    | EndGraph
)

READS = (ListCollections, DueGraph, FindRecord, ListRecords, ReadChunks, Search)
