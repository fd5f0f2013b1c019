"""Names of indexes and documents."""

import pytest

from services.retriever.core.naming import document_id_for, is_document_id, is_index_name, last_part


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("default", True),
        ("0_a-b", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("", False),
        ("-a", False),
        ("Ab", False),
        ("a/b", False),
        ("..", False),
        ("a\n", False),
    ],
)
def test_index_names(name: str, allowed: bool) -> None:
    assert is_index_name(name) is allowed


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("/tmp/a/report.pdf", "report.pdf"),
        ("C:\\docs\\report.pdf", "report.pdf"),
        ("https://example.org/a/b/?q=1#top", "b"),
        ("report.pdf", "report.pdf"),
        ("a#b.md", "a#b.md"),
        ("///", "///"),
    ],
)
def test_last_part(source: str, part: str) -> None:
    assert last_part(source) == part


@pytest.mark.parametrize("source", ["/tmp/report.pdf", "Grüße an alle.md", "…", "a" * 5000], ids=range(4))
def test_a_made_id_is_allowed_and_stays(source: str) -> None:
    document_id = document_id_for(source)
    assert is_document_id(document_id)
    assert document_id == document_id_for(source)
    assert document_id != document_id_for(source + "x")
