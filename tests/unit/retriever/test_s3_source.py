"""Objects of a real S3 server (moto's), through its real protocol."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from services.kit.settings.ingest import S3SourceSettings
from services.retriever.failure import IngestFailure
from services.retriever.jobs.job import Tag
from services.retriever.sources.s3 import S3Source
from services.retriever.sources.source import SourceAway
from tests.fakes.s3 import s3_server


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def bucket(endpoint: str) -> str:
    client: Any = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )
    client.create_bucket(Bucket="birds")
    client.put_object(Bucket="birds", Key="heron.md", Body=b"# Heron", ContentType="text/markdown")
    client.put_object(Bucket="birds", Key="deep/ä swan 100%.txt", Body=b"Swan")
    client.put_object(Bucket="birds", Key="deep/.hidden/a.md", Body=b"hidden")
    client.put_object(Bucket="birds", Key="deep/program.exe", Body=b"MZ")
    client.put_object(Bucket="birds", Key="large.txt", Body=b"x" * 2000)
    for n in range(520):
        client.put_object(Bucket="birds", Key=f"many/{n:04}.md", Body=b"x")
    client.close()
    return "birds"


@pytest.fixture
def source(endpoint: str, bucket: str) -> S3Source:
    return S3Source(S3SourceSettings(endpoint=endpoint, access_key_id="k", secret_access_key="s"), 1000)


async def listed(source: S3Source, uri: str, cursor: str = "") -> list[str]:
    return [found async for page in source.pages(uri, cursor) for found in page.uris]


async def test_an_object_comes_with_its_type_and_its_tag(source: S3Source) -> None:
    found = await source.fetch("s3://birds/heron.md", Tag())
    assert found is not None
    assert (found.content, found.media_type) == (b"# Heron", "text/markdown")
    assert found.tag.etag
    assert await source.fetch("s3://birds/heron.md", found.tag) is None


async def test_a_prefix_is_its_documents(source: S3Source) -> None:
    (uri,) = await listed(source, "s3://birds/deep")
    assert uri == "s3://birds/deep/ä swan 100%.txt"
    found = await source.fetch(uri, Tag())
    assert found is not None
    assert (found.content, found.media_type) == (b"Swan", "")
    assert await listed(source, "s3://birds/heron.md") == ["s3://birds/heron.md"]
    assert len(await listed(source, "s3://birds")) == 523


async def test_a_listing_comes_in_pages_and_goes_on_behind_its_cursor(source: S3Source) -> None:
    pages = [page async for page in source.pages("s3://birds/many/", "")]
    assert [len(page.uris) for page in pages] == [500, 20]
    assert await listed(source, "s3://birds/many/", pages[0].cursor) == list(pages[1].uris)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://birds/none.md", "OBJECT_NOT_FOUND"),
        ("s3://none/a.md", "OBJECT_NOT_FOUND"),
        ("s3://birds/large.txt", "DOCUMENT_TOO_LARGE"),
    ],
)
async def test_objects_that_cannot_be_had(source: S3Source, uri: str, reason: str) -> None:
    with pytest.raises(IngestFailure) as caught:
        await source.fetch(uri, Tag())
    assert caught.value.reason == reason


async def test_a_prefix_without_objects_is_taken_for_an_object(source: S3Source) -> None:
    assert await listed(source, "s3://birds/nothing/") == ["s3://birds/nothing/"]


async def test_a_server_that_is_gone_is_away(bucket: str) -> None:
    with pytest.raises(SourceAway):
        await S3Source(S3SourceSettings(endpoint="http://127.0.0.1:1"), 1000).fetch("s3://birds/heron.md", Tag())


def test_keys_are_not_shown() -> None:
    settings = S3SourceSettings(access_key_id="AKIA", secret_access_key="hidden")
    assert "hidden" not in repr(settings) + repr(S3Source(settings, 1))


@pytest.mark.parametrize("uri", ["s3://", "s3://../key", "s3://a?list-type=2/key", "s3://a#b/key", "s3://u@host/key"])
def test_what_is_no_name_of_a_bucket_is_refused(uri: str) -> None:
    assert "s3://bucket/key" in S3Source(S3SourceSettings(), 1000).check(uri)
