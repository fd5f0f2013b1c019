"""Local files: only those under the roots, whatever way leads to them."""

import os
from pathlib import Path

import pytest

from services.retriever.failure import IngestFailure
from services.retriever.jobs.job import Tag
from services.retriever.sources.files import FileSource, to_uri
from services.retriever.sources.source import SourceAway


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "deep").mkdir(parents=True)
    (folder / "node_modules").mkdir()
    (folder / "deep" / "ä 100%.md").write_text("swan")
    (folder / "node_modules" / "a.md").write_text("not ours")
    (tmp_path / "secret.md").write_text("secret")
    (folder / "out.md").symlink_to(tmp_path / "secret.md")
    (folder / "in.md").symlink_to(folder / "deep" / "ä 100%.md")
    (folder / "up").symlink_to(tmp_path)
    return folder


async def listed(source: FileSource, uri: str) -> list[str]:
    return [found async for page in source.pages(uri, "") for found in page.uris]


async def test_a_folder_is_its_documents_without_those_that_lead_outside(root: Path) -> None:
    source = FileSource([str(root)], 100)
    assert await listed(source, root.as_uri()) == [to_uri(root / "in.md"), to_uri(root / "deep" / "ä 100%.md")]
    for uri in await listed(source, root.as_uri()):
        assert source.check(uri) == ""
        found = await source.fetch(uri, Tag())
        assert found is not None
        assert found.content == b"swan"
        assert await source.fetch(uri, found.tag) is None


@pytest.mark.parametrize("path", ["out.md", "up/secret.md", "deep/../../secret.md", "deep/%2e%2e/%2e%2e/secret.md"])
async def test_no_way_leads_outside(root: Path, path: str) -> None:
    source = FileSource([str(root)], 100)
    uri = f"{root.as_uri()}/{path}"
    assert "outside" in source.check(uri) or "deep" not in path
    with pytest.raises(IngestFailure) as caught:
        await source.fetch(uri, Tag())
    assert caught.value.reason == "FILE_NOT_ALLOWED"


def test_paths_outside_are_refused_before_a_job_begins(root: Path) -> None:
    source = FileSource([str(root)], 100)
    for uri in ("file:///etc/passwd", f"{root.as_uri()}/../secret.md", f"{root.as_uri()}-other/a.md"):
        assert "outside the folders" in source.check(uri), uri
    assert "roots" in FileSource([], 100).check("file:///etc/passwd")


async def test_a_link_that_is_put_in_a_files_place_is_not_followed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap happens after the path was checked and before it is opened."""
    source = FileSource([str(root)], 100)
    victim = root / "victim.md"
    victim.write_text("harmless")
    real = os.open

    def swapping(path: str, flags: int, *rest: int, dir_fd: int | None = None) -> int:
        if path == "victim.md":
            victim.unlink()
            victim.symlink_to(tmp_path / "secret.md")
        return real(path, flags, *rest, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swapping)
    with pytest.raises(Exception, match="cannot be read"):
        await source.fetch(victim.as_uri(), Tag())


async def test_what_is_no_plain_file_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "pipe.md")
    (root / "large.md").write_text("x" * 101)
    reasons = []
    for name in ("pipe.md", "deep", "large.md", "none.md"):
        with pytest.raises(IngestFailure) as caught:
            await FileSource([str(root)], 100).fetch((root / name).as_uri(), Tag())
        reasons.append(caught.value.reason)
    assert reasons == ["NOT_A_FILE", "NOT_A_FILE", "DOCUMENT_TOO_LARGE", "FILE_UNREADABLE"]


async def test_names_that_are_no_utf_8_are_read(root: Path) -> None:
    (root / "deep" / os.fsdecode(b"gr\xfcn.md")).write_text("green")
    source = FileSource([str(root)], 100)
    (uri, _) = await listed(source, (root / "deep").as_uri())
    assert uri.endswith("/gr%FCn.md")
    assert source.check(uri) == ""
    found = await source.fetch(uri, Tag())
    assert found is not None
    assert found.content == b"green"


async def test_links_in_a_ring_and_names_beyond_all_length_end_no_listing(root: Path) -> None:
    (root / "deep" / "a.md").symlink_to(root / "deep" / "b.md")
    (root / "deep" / "b.md").symlink_to(root / "deep" / "a.md")
    source = FileSource([str(root)], 100)
    found = await listed(source, (root / "deep").as_uri())
    assert to_uri(root / "deep" / "ä 100%.md") in found
    long = f"{root.as_uri()}/{'x' * 300}"
    assert await listed(source, long) == [long]
    for uri in (long, *found[:2]):
        with pytest.raises((IngestFailure, SourceAway)) as caught:
            await source.fetch(uri, Tag())
        assert caught.value.reason == "FILE_UNREADABLE"
