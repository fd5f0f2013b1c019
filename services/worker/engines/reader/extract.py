"""Chooses what to quote: of all units of the sources, the few that answer the question best. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from services.worker.engines.reader.score import LEANS, Candidate, candidates_of, score_all, weigh
from services.worker.engines.reader.sentences import Kind, is_whole
from services.worker.engines.reader.sources import Source
from services.worker.engines.reader.terms import terms

QUOTES_LIMIT = 3
# Of a longer question the beginning counts: extraction runs on the loop and has to stay within milliseconds.
QUESTION_LIMIT = 2_000
TERMS_LIMIT = 40
WORDS_LIMIT = 110
# Coverage of the question from which a quote stands as an answer, and from which it is at least worth showing.
DIRECT = 0.5
CLOSE = 0.24
# Share of the best score that a further quote needs.
FURTHER = 0.75
# The same for a quote of another source that adds no term of the question.
ELSEWHERE = 0.9
# Items of a list or table that are quoted whole.
ITEMS_LIMIT = 10
# Two units that share more of their terms than this say the same.
SAME = 0.6

_ENUMERATES = re.compile(
    r"\b(which|list|name all|what \w+ (are|can|does|do|exist)|what are|what kinds?)\b", re.IGNORECASE
)
_NAMED_SHARE = 0.5
_SUMMARY = re.compile(
    r"\b(summar\w+|overview|tl;?dr|gist|outline|main (points?|ideas?))\b|\babout\s*\?*$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Quote:
    """A piece of a source; `at` is its place there."""

    source: Source
    at: int
    text: str
    kind: Kind
    under: str = ""
    """The heading, where the text alone does not show what it is about."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The quotes in the order to show them, and how much of the question they cover, 0 to 1."""

    quotes: tuple[Quote, ...]
    coverage: float


def find(question: str, sources: tuple[Source, ...]) -> Finding:
    """The best quotes for the question; none where nothing in the sources touches it."""
    question = " ".join(question[:QUESTION_LIMIT].split())
    candidates = candidates_of(sources)
    wanted = list(dict.fromkeys(terms(question)))[:TERMS_LIMIT]
    if not candidates:
        return Finding((), 0.0)
    if _SUMMARY.search(question) and not _known(wanted, candidates):
        return Finding(_opening(candidates), 1.0)
    if not wanted:
        return Finding((), 0.0)
    score_all(question, wanted, candidates)
    if listed := _listing(question, wanted, candidates):
        return Finding(tuple(_quotes(listed)), 1.0)
    best = max(candidates, key=lambda c: (c.score, -c.rank, -c.at))
    if best.coverage < CLOSE:
        return Finding((), best.coverage)
    picked = _pick(best, candidates)
    return Finding(tuple(_quotes(picked)), max(candidate.coverage for candidate in picked))


def _known(wanted: list[str], candidates: list[Candidate]) -> bool:
    """Whether the sources have a word for anything that the question asks."""
    return any(one in candidate.terms for candidate in candidates for one in wanted)


def _opening(candidates: list[Candidate]) -> tuple[Quote, ...]:
    """What a summary can be without a model: how the first sources begin."""
    found: list[Quote] = []
    for candidate in candidates:
        unit = candidate.unit
        tells = unit.kind is Kind.SENTENCE and is_whole(unit.text) and len(candidate.terms) > 3
        if tells and sum(quote.source is candidate.source for quote in found) < 2:
            found.append(Quote(candidate.source, candidate.at, unit.text, unit.kind))
        if len(found) == QUOTES_LIMIT:
            break
    return tuple(found)


def _listing(question: str, wanted: list[str], candidates: list[Candidate]) -> list[Candidate]:
    """For a question that asks for several things: the list or table under a heading that names them all."""
    if not _ENUMERATES.search(question):
        return []
    groups: dict[tuple[int, str], list[Candidate]] = {}
    for candidate in candidates:
        if candidate.unit.kind in (Kind.ITEM, Kind.ROW):
            groups.setdefault((candidate.rank, candidate.unit.heading), []).append(candidate)
    weights = weigh(wanted, candidates)
    for (_, heading), group in groups.items():
        named = set(terms(heading))
        covered = sum(weight for one, weight in weights.items() if one in named)
        if len(group) > 1 and covered >= _NAMED_SHARE * sum(weights.values()):
            return group[:ITEMS_LIMIT]
    return []


def _pick(best: Candidate, candidates: list[Candidate]) -> list[Candidate]:
    """The best unit and what adds to it without repeating it, within the limits."""
    picked = [best]
    words = len(best.unit.text.split())
    ranked = sorted(candidates, key=lambda c: (-c.score, c.rank, c.at))
    for candidate in ranked:
        size = len(candidate.unit.text.split())
        adds = candidate.own - frozenset().union(*(other.own for other in picked))
        share = FURTHER if adds or candidate.source is best.source else ELSEWHERE
        if len(picked) == QUOTES_LIMIT or candidate.score < FURTHER * best.score:
            break
        if candidate.score < share * best.score or candidate.coverage < share * best.coverage:
            continue
        if words + size > WORDS_LIMIT or candidate.coverage < CLOSE or _belongs(candidate, picked):
            continue
        if all(_overlap(candidate, other) < SAME for other in picked):
            picked.append(candidate)
            words += size
    first = [candidate for candidate in picked if candidate.source is best.source]
    others = [candidate for candidate in picked if candidate.source is not best.source]
    return sorted(first, key=lambda c: c.at) + sorted(others, key=lambda c: (c.rank, c.at))


def _belongs(candidate: Candidate, picked: list[Candidate]) -> bool:
    """Whether it comes along already, as an item of a list that is quoted whole or as its lead."""
    return any(
        candidate.source is other.source
        and (candidate.at == other.at or candidate.unit.lead == other.at or other.unit.lead == candidate.at)
        for other in picked
    )


def _overlap(one: Candidate, other: Candidate) -> float:
    mine, theirs = set(one.terms), set(other.terms)
    return len(mine & theirs) / max(1, min(len(mine), len(theirs)))


def _quotes(picked: list[Candidate]) -> Iterator[Quote]:
    """The picked units with what they cannot be read without: their lead, their list, or the sentence before."""
    given: set[tuple[int, int]] = set()
    for candidate in picked:
        for at in _with_context(candidate):
            if (candidate.rank, at) not in given:
                given.add((candidate.rank, at))
                unit = candidate.units[at]
                shows = candidate.own or at != candidate.at or not unit.heading
                yield Quote(candidate.source, at, unit.text, unit.kind, "" if shows else unit.heading)


def _with_context(candidate: Candidate) -> list[int]:
    unit, at = candidate.unit, candidate.at
    if unit.followers:
        return [at, *unit.followers]
    if unit.lead >= 0 and unit.kind is Kind.CODE:
        return [unit.lead, at]
    before = candidate.units[at - 1] if at else None
    leans = unit.kind is Kind.SENTENCE and LEANS.match(unit.text)
    if leans and before and before.block == unit.block and len(before.text.split()) <= 40:
        return [at - 1, at]
    if unit.kind is Kind.CODE and before and before.kind is Kind.SENTENCE and before.heading == unit.heading:
        return [at - 1, at]
    return [at]
