"""A retriever on a real socket, on threads of its own, that keeps what it is sent and reads nothing of it."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from weft.retriever.v1 import retriever_pb2 as pb
from weft.retriever.v1 import retriever_pb2_grpc


class IngestingRetriever(retriever_pb2_grpc.RetrieverServiceServicer):
    """`break_after` documents its stream breaks off; documents whose text is `bad` fail, and go into quarantine."""

    def __init__(self, break_after: int = 1_000_000) -> None:
        self.break_after = break_after
        self.documents: dict[str, str] = {}
        self.sent: list[str] = []
        self.cleared: list[pb.ClearQuarantineRequest] = []
        self.job = pb.IngestJob(job_id="job-1", index="default", started_at=Timestamp(seconds=1), found=2, indexed=1)
        self._server = grpc.server(ThreadPoolExecutor(4))
        retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop(None).wait()

    def ListDocuments(self, request: pb.ListDocumentsRequest, context: Any) -> pb.ListDocumentsResponse:
        """Those whose source is asked for, one a page."""
        (condition,) = request.filter.conditions
        names = sorted(set(condition.values) & set(self.documents))
        at = int(request.page_token or 0)
        page = [
            pb.DocumentRecord(source=name, content_hash=self.documents[name], chunks=3) for name in names[at : at + 1]
        ]
        return pb.ListDocumentsResponse(documents=page, next_page_token=str(at + 1) if at + 1 < len(names) else "")

    def IngestDocuments(self, requests: Iterator[pb.IngestDocumentsRequest], context: Any) -> Iterator[Any]:
        """Answers each at once."""
        for position, request in enumerate(requests):
            if position == self.break_after:
                context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            source, content = request.document.source, request.document.content
            self.sent.append(source)
            answer = pb.IngestDocumentsResponse(position=position, source=source, chunks=3)
            if content == b"bad":
                answer.status = pb.IngestDocumentsResponse.STATUS_FAILED
                answer.failure.message = "it is bad"
            else:
                answer.status = pb.IngestDocumentsResponse.STATUS_INDEXED
                self.documents[source] = hashlib.sha256(content).hexdigest()
            yield answer

    def StartIngest(self, request: pb.StartIngestRequest, context: Any) -> pb.StartIngestResponse:
        """Always the same job."""
        return pb.StartIngestResponse(job=pb.IngestJob(job_id="job-1", state=pb.IngestJob.STATE_RUNNING))

    def WatchIngest(self, request: pb.WatchIngestRequest, context: Any) -> Iterator[Any]:
        """Under way, then done."""
        self.job.state = pb.IngestJob.STATE_RUNNING
        yield pb.WatchIngestResponse(job=self.job)
        self.job.state, self.job.failed = pb.IngestJob.STATE_DONE, 1
        yield pb.WatchIngestResponse(job=self.job)

    def ListIngests(self, request: pb.ListIngestsRequest, context: Any) -> pb.ListIngestsResponse:
        """One job."""
        return pb.ListIngestsResponse(jobs=[self.job])

    def ListQuarantine(self, request: pb.ListQuarantineRequest, context: Any) -> pb.ListQuarantineResponse:
        """Two documents, one a page."""
        at = int(request.page_token or 0)
        failure = pb.IngestFailure(reason="PDF_UNREADABLE", message=f"{at}.pdf is bad")
        found = pb.Quarantined(index="default", document_id=f"d{at}", source=f"{at}.pdf", failure=failure, attempts=1)
        return pb.ListQuarantineResponse(documents=[found], next_page_token="" if at else "1")

    def RetryQuarantine(self, request: pb.RetryQuarantineRequest, context: Any) -> Iterator[Any]:
        """One works, one does not."""
        for source, status in (("0.pdf", "STATUS_INDEXED"), ("1.pdf", "STATUS_FAILED")):
            result = pb.IngestDocumentsResponse(source=source, status=pb.IngestDocumentsResponse.Status.Value(status))
            result.failure.message = "1.pdf is bad" if status == "STATUS_FAILED" else ""
            yield pb.RetryQuarantineResponse(result=result)

    def ClearQuarantine(self, request: pb.ClearQuarantineRequest, context: Any) -> pb.ClearQuarantineResponse:
        """Notes what is asked."""
        self.cleared.append(request)
        return pb.ClearQuarantineResponse(cleared=2)
