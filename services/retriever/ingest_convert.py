"""Wire to domain and back for what ingests: statuses, jobs and quarantine."""

from google.rpc import code_pb2

from services.kit.errors import InvalidArgument
from services.retriever.convert import timestamp, to_document_id, to_index
from services.retriever.document import Document, Outcome
from services.retriever.failure import IngestFailure
from services.retriever.ingest import Ingested
from services.retriever.jobs.job import Job, JobState, Quarantined, Said
from weft.retriever.v1 import retriever_pb2 as pb

_MAX_URIS = 10_000
_MAX_PAGE = 1000
_MAX_IDS = 1000
_DEFAULT_PAGE = 100
_MAX_METADATA = 32
_MAX_METADATA_CHARS = 8192

_STATUSES = {
    Outcome.INDEXED: pb.IngestDocumentsResponse.STATUS_INDEXED,
    Outcome.UNCHANGED: pb.IngestDocumentsResponse.STATUS_UNCHANGED,
    Outcome.REPLACED: pb.IngestDocumentsResponse.STATUS_REPLACED,
    Outcome.DUPLICATE: pb.IngestDocumentsResponse.STATUS_DUPLICATE,
    Outcome.FAILED: pb.IngestDocumentsResponse.STATUS_FAILED,
}
_STATES = {
    JobState.RUNNING: pb.IngestJob.STATE_RUNNING,
    JobState.DONE: pb.IngestJob.STATE_DONE,
    JobState.CANCELLED: pb.IngestJob.STATE_CANCELLED,
}


def from_ingested(position: int, source: str, document_id: str, found: Ingested) -> pb.IngestDocumentsResponse:
    """One document's status."""
    response = pb.IngestDocumentsResponse(
        position=position,
        document_id=document_id,
        source=source,
        status=_STATUSES[found.outcome],
        chunks=found.chunks,
        near_duplicate_of=found.near_duplicate_of,
    )
    if found.failure:
        response.failure.CopyFrom(_from_failure(found.failure))
    return response


def _from_failure(failure: IngestFailure) -> pb.IngestFailure:
    return pb.IngestFailure(code=code_pb2.Code.ValueType(failure.code), reason=failure.reason, message=failure.message)


def said_of(document: Document) -> Said:
    """What the sender said of a document besides its content."""
    return Said(document.title, document.media_type, document.language, document.licence, dict(document.metadata))


def to_uris(request: pb.StartIngestRequest) -> list[str]:
    """What to ingest. Raises InvalidArgument for their number, and for metadata over the bounds of a document's."""
    if not 1 <= len(request.uris) <= _MAX_URIS:
        raise InvalidArgument(
            f"there are {len(request.uris)} URIs; send 1 to {_MAX_URIS:,}", reason="INVALID_URIS", field="uris"
        )
    chars = sum(len(key) + len(value) for key, value in request.metadata.items())
    if len(request.metadata) > _MAX_METADATA or "" in request.metadata or chars > _MAX_METADATA_CHARS:
        raise InvalidArgument(
            f"metadata may have {_MAX_METADATA} pairs and {_MAX_METADATA_CHARS:,} characters, and each needs a key",
            reason="INVALID_METADATA",
            field="metadata",
        )
    return list(request.uris)


def to_chosen(request: pb.RetryQuarantineRequest | pb.ClearQuarantineRequest) -> tuple[str, list[str]]:
    """An index, or an empty text for all, and the ids of documents. Raises InvalidArgument."""
    if len(request.document_ids) > _MAX_IDS:
        raise InvalidArgument(
            f"document_ids has {len(request.document_ids):,} ids, over the limit of {_MAX_IDS:,}; send fewer at a time",
            reason="TOO_MANY_IDS",
            field="document_ids",
        )
    index = to_index(request.index) if request.index else ""
    return index, [to_document_id(document_id) for document_id in request.document_ids]


def to_page(request: pb.ListQuarantineRequest) -> tuple[int, int]:
    """How many, and the number that they must lie below; 0 is the beginning. Raises InvalidArgument."""
    if request.page_size > _MAX_PAGE:
        raise InvalidArgument(
            f"page_size is {request.page_size}, over the limit of {_MAX_PAGE}; ask for fewer",
            reason="PAGE_TOO_LARGE",
            field="page_size",
        )
    if request.page_token and not (request.page_token.isdecimal() and len(request.page_token) < 19):
        raise InvalidArgument(
            "page_token is none that ListQuarantine gave out; leave it empty to begin anew",
            reason="INVALID_PAGE_TOKEN",
            field="page_token",
        )
    return request.page_size or _DEFAULT_PAGE, int(request.page_token or 0)


def from_job(job: Job) -> pb.IngestJob:
    """A job's progress."""
    return pb.IngestJob(
        job_id=job.job_id,
        index=job.index,
        state=_STATES[job.state],
        found=job.found,
        indexed=job.indexed,
        replaced=job.replaced,
        unchanged=job.unchanged,
        duplicates=job.duplicate,
        failed=job.failed,
        started_at=timestamp(job.started_at_s),
        ended_at=timestamp(job.ended_at_s) if job.ended_at_s else None,
    )


def from_quarantined(entry: Quarantined) -> pb.Quarantined:
    """A document in quarantine."""
    return pb.Quarantined(
        index=entry.index,
        document_id=entry.document_id,
        source=entry.source,
        failure=_from_failure(entry.failure),
        failed_at=timestamp(entry.failed_at_s),
        attempts=entry.attempts,
        can_retry=entry.can_retry,
    )
