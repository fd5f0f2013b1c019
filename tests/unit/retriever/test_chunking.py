"""Chunk borders: exact, bounded, at good places, never across sections."""

import re
from itertools import pairwise

import pytest

from services.retriever.core.chunking import Block, Cut, Span, cut


def words(text: str) -> list[Span]:
    """One token per word or mark, as WordPiece would mostly have it."""
    return [found.span() for found in re.finditer(r"\w+|[^\w\s]", text)]


def one_block(text: str) -> list[Block]:
    return [Block(0, len(text))]


def sentences(count: int, length: int = 9) -> str:
    return " ".join(" ".join(["word"] * (length - 1)) + " end." for _ in range(count))


def tokens(text: str, piece: Cut) -> int:
    return len(words(text[piece.start : piece.end]))


def test_a_short_text_is_one_chunk() -> None:
    text = "  One sentence.  "
    assert list(cut(text, one_block(text), words, 100, 10)) == [Cut(2, 15, (), 0)]


@pytest.mark.parametrize("text", ["", "   \n\n  "], ids=["empty", "blank"])
def test_no_tokens_give_no_chunks(text: str) -> None:
    assert list(cut(text, one_block(text), words, 100, 10)) == []


def test_chunks_are_bounded_cover_everything_and_overlap() -> None:
    text = sentences(40)
    pieces = list(cut(text, one_block(text), words, 50, 12))
    assert all(tokens(text, piece) <= 50 for piece in pieces)
    assert pieces[0].start == 0
    assert pieces[-1].end == len(text)
    for before, after in pairwise(pieces):
        assert before.start < after.start < before.end < after.end
        assert len(words(text[after.start : before.end])) <= 12


def test_a_chunk_ends_with_a_sentence_and_the_next_begins_with_one() -> None:
    text = sentences(40)
    for before, after in pairwise(cut(text, one_block(text), words, 50, 12)):
        assert text[before.start : before.end].endswith("end.")
        assert text[after.start - 2 : after.start] == ". "


def test_a_paragraph_end_is_better_than_a_sentence_end() -> None:
    first, second = sentences(3), sentences(6)
    text = f"{first}\n\n{second}"
    pieces = list(cut(text, one_block(text), words, 50, 0))
    assert text[pieces[0].start : pieces[0].end] == first


def test_without_overlap_nothing_is_twice() -> None:
    text = sentences(40)
    pieces = list(cut(text, one_block(text), words, 50, 0))
    assert all(before.end <= after.start for before, after in pairwise(pieces))


def test_sections_stay_apart_and_keep_their_headings() -> None:
    text = "Top\n\nIntro text.\n\nSub\n\nMore text."
    blocks = [
        Block(0, 3, ("Top",), 1, is_heading=True),
        Block(5, 16, ("Top",), 1),
        Block(18, 21, ("Top", "Sub"), 2, is_heading=True),
        Block(23, 33, ("Top", "Sub"), 2),
    ]
    assert list(cut(text, blocks, words, 100, 10)) == [Cut(0, 16, ("Top",), 1), Cut(18, 33, ("Top", "Sub"), 2)]


def test_headings_with_nothing_below_join_the_next_section() -> None:
    text = "Top\n\nSub\n\nMore text."
    blocks = [
        Block(0, 3, ("Top",), is_heading=True),
        Block(5, 8, ("Top", "Sub"), is_heading=True),
        Block(10, 20, ("Top", "Sub")),
    ]
    assert list(cut(text, blocks, words, 100, 10)) == [Cut(0, 20, ("Top", "Sub"), 0)]


def test_a_document_of_headings_alone_is_kept() -> None:
    assert list(cut("Top", [Block(0, 3, ("Top",), is_heading=True)], words, 100, 10)) == [Cut(0, 3, ("Top",), 0)]


def test_a_chunk_has_the_page_on_which_it_starts() -> None:
    page = sentences(10)
    text = f"{page}\n\n{page}"
    blocks = [Block(0, len(page), (), 1), Block(len(page) + 2, len(text), (), 2)]
    for piece in cut(text, blocks, words, 40, 8):
        assert piece.page == (1 if piece.start < len(page) else 2)


def test_a_word_without_end_is_bounded_in_characters() -> None:
    text = "x" * 100_000
    pieces = list(cut(text, one_block(text), words, 20, 4))
    assert max(piece.end - piece.start for piece in pieces) <= 20 * 100
    assert pieces[-1].end == len(text)


def test_blanks_without_end_are_bounded_in_characters() -> None:
    text = "a" + " " * 100_000 + "b"
    assert [text[piece.start : piece.end] for piece in cut(text, one_block(text), words, 20, 4)] == ["a", "b"]


def test_too_much_overlap_is_a_broken_promise() -> None:
    with pytest.raises(ValueError, match="half"):
        list(cut("a", one_block("a"), words, 20, 11))
