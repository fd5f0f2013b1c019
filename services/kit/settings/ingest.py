"""The settings of ingest jobs: where documents may be fetched from, what is retried, what is kept of failures."""

import ipaddress
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from services.kit.settings.shared import Section


class HttpSourceSettings(Section):
    """How web pages are fetched."""

    user_agent: str = Field(
        default="weft-ingest/0.1",
        pattern=r"^[A-Za-z][A-Za-z-]*(/[!-~]+)?( [ -~]*)?$",
        description="Who it says it is; its first word is looked for in robots.txt.",
    )
    robots: bool = Field(default=True, description="Leave alone what robots.txt asks to leave alone.")
    robots_ttl_s: float = Field(default=3600.0, gt=0.0, description="Time for which a robots.txt is believed.")
    allowed_networks: list[str] = Field(
        default_factory=list,
        description="Networks such as 10.1.0.0/16 that may be fetched from although they are not public.",
    )
    max_redirects: int = Field(default=5, ge=0, le=20, description="Redirects that are followed, each checked.")
    connect_timeout_s: float = Field(default=10.0, gt=0.0, description="Time to connect.")
    timeout_s: float = Field(default=60.0, gt=0.0, description="Time for one request, its body included.")
    per_host: int = Field(default=2, ge=1, le=64, description="Requests to one host at once.")
    delay_s: float = Field(default=0.2, ge=0.0, description="Least time between two requests to one host.")
    max_crawl_delay_s: float = Field(
        default=30.0, ge=0.0, description="Most that a robots.txt may ask for between two requests."
    )

    @field_validator("allowed_networks")
    @classmethod
    def _are_networks(cls, names: list[str]) -> list[str]:
        for name in names:
            ipaddress.ip_network(name)
        return names


class S3SourceSettings(Section):
    """An S3-compatible object store; without keys it is asked anonymously."""

    endpoint: str = Field(default="", description="URL of the service; empty: AWS in `region`.")
    region: str = Field(default="us-east-1", min_length=1, description="The buckets' region.")
    access_key_id: SecretStr | None = Field(default=None, description="Key id.")
    secret_access_key: SecretStr | None = Field(default=None, description="The key.")
    session_token: SecretStr | None = Field(default=None, description="Token of temporary keys.")
    buckets: list[str] = Field(
        default_factory=list, description="Buckets that may be read; empty: all that the keys allow."
    )
    timeout_s: float = Field(default=60.0, gt=0.0, description="Time for one object or one page of a listing.")

    @model_validator(mode="after")
    def _keys_are_whole(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together")
        return self


class IngestSettings(Section):
    """Jobs, sources, quarantine and near duplicates."""

    roots: list[str] = Field(
        default_factory=list, description="Folders whose files file:// URIs may name; none by default."
    )
    http: HttpSourceSettings = HttpSourceSettings()
    s3: S3SourceSettings = S3SourceSettings()
    max_running_jobs: int = Field(default=4, ge=1, le=64, description="Jobs that run at once; others wait their turn.")
    max_unfinished_jobs: int = Field(default=64, ge=1, description="Jobs that run or wait; over it RESOURCE_EXHAUSTED.")
    max_kept_jobs: int = Field(default=200, ge=1, description="Finished jobs that are remembered.")
    max_job_documents: int = Field(default=1_000_000, ge=1, description="Documents of one job; the rest is left out.")
    documents_in_flight: int = Field(default=8, ge=1, le=256, description="Documents that one job fetches at once.")
    attempts: int = Field(default=4, ge=1, le=100, description="Tries of one document whose source is away.")
    retry_delay_s: float = Field(default=1.0, gt=0.0, description="Pause before the second try; it doubles each time.")
    max_retry_delay_s: float = Field(default=60.0, gt=0.0, description="Longest pause before another try.")
    quarantine_documents: int = Field(default=10_000, ge=1, description="Failed documents that are remembered.")
    quarantine_bytes: int = Field(
        default=256 * 1024 * 1024, ge=0, description="Bytes of failed documents that are kept to be tried again."
    )
    near_duplicate_similarity: float = Field(
        default=0.85,
        ge=0.5,
        le=1.0,
        description="Share of common five-word runs from which two documents are near duplicates.",
    )
