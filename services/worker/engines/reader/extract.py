"""Chooses what to quote: scores every unit of the sources against the question and picks the few best. Pure.

A unit's score is the share of the question that it covers, each term weighted by how rare it is among the units
(idf), plus what its heading and title cover, its neighbours, the form that the question asks for, and the source's
rank. The constants were set by reading answers on manuals, papers and articles.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.worker.engines.reader.sentences import Kind, Unit, is_whole, split
from services.worker.engines.reader.sources import Source
from services.worker.engines.reader.terms import pairs, terms

UNITS_LIMIT = 2_000
QUOTES_LIMIT = 3
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

_HEADING_SHARE = 0.55
_TITLE_SHARE = 0.3
_PAIR_BONUS = 0.12
_NEIGHBOUR_SHARE = 0.12
_FORM_BONUS = 0.14
_RANK_STEP = 0.03
_ABSENT_SHARE = 0.6
_PREFIX_MIN = 5
_PREFIX_SHARE = 0.6
_LEANS = re.compile(
    r"^(it|its|this|that|these|those|they|their|he|she|his|her|such|however|but|also|therefore|thus|hence|then|and|so"
    r"|in addition|moreover|furthermore|otherwise|instead|for example|for instance)\b",
    re.IGNORECASE,
)
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


@dataclass(slots=True)
class _Candidate:
    source: Source
    rank: int
    at: int
    unit: Unit
    units: list[Unit]
    terms: list[str]
    own: frozenset[str] = frozenset()
    coverage: float = 0.0
    score: float = 0.0


def find(question: str, sources: tuple[Source, ...]) -> Finding:
    """The best quotes for the question; none where nothing in the sources touches it."""
    candidates = _candidates(sources)
    wanted = list(dict.fromkeys(terms(question)))
    if not candidates:
        return Finding((), 0.0)
    if _SUMMARY.search(question) and not _known(wanted, candidates):
        return Finding(_opening(candidates), 1.0)
    if not wanted:
        return Finding((), 0.0)
    _score(question, wanted, candidates)
    if listed := _listing(question, wanted, candidates):
        return Finding(tuple(_quotes(listed)), 1.0)
    best = max(candidates, key=lambda c: (c.score, -c.rank, -c.at))
    if best.coverage < CLOSE:
        return Finding((), best.coverage)
    picked = _pick(best, candidates)
    return Finding(tuple(_quotes(picked)), max(candidate.coverage for candidate in picked))


def _candidates(sources: tuple[Source, ...]) -> list[_Candidate]:
    found: list[_Candidate] = []
    for rank, source in enumerate(sources):
        units = split(source.text)
        for at, unit in enumerate(units):
            if len(found) < UNITS_LIMIT:
                found.append(_Candidate(source, rank, at, unit, units, terms(unit.text)))
    return found


def _known(wanted: list[str], candidates: list[_Candidate]) -> bool:
    """Whether the sources have a word for anything that the question asks."""
    return any(one in candidate.terms for candidate in candidates for one in wanted)


def _opening(candidates: list[_Candidate]) -> tuple[Quote, ...]:
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


def _score(question: str, wanted: list[str], candidates: list[_Candidate]) -> None:
    weights = _weights(wanted, candidates)
    total = sum(weights.values())
    wanted_pairs = pairs(wanted)
    form = _form(question)
    for candidate in candidates:
        own = {one: _match(one, candidate.terms) for one in wanted}
        heading = set(terms(f"{candidate.unit.heading} {candidate.source.section}"))
        title = set(terms(candidate.source.title))
        covered = 0.0
        for one, weight in weights.items():
            around = _HEADING_SHARE if one in heading else _TITLE_SHARE if one in title else 0.0
            # A heading tells what the text below is about, but it cannot answer alone.
            covered += weight * min(1.0, max(own[one], around) + (0.15 if own[one] and around else 0.0))
        candidate.coverage = covered / total
        candidate.own = frozenset(one for one in wanted if own[one])
        if not candidate.own:
            # A heading that names two of the terms says that the text below it is the place.
            candidate.coverage *= 0.9 if len(heading & set(wanted)) > 1 else 0.6
        shared = wanted_pairs & pairs(candidate.terms)
        candidate.score = candidate.coverage + _PAIR_BONUS * len(shared) / max(1, len(wanted_pairs))
        candidate.score += _FORM_BONUS * form(candidate)
        candidate.score *= _shape(candidate) * (1.0 - _RANK_STEP * min(candidate.rank, 10))
    _lift_neighbours(candidates)


def _weights(wanted: list[str], candidates: list[_Candidate]) -> dict[str, float]:
    """Rare terms weigh more. One that the sources have nowhere is likely to be said in other words: it weighs less."""
    counts = {one: sum(one in candidate.terms for candidate in candidates) for one in wanted}
    size = len(candidates)
    weights = {one: math.log(1.0 + (size - n + 0.5) / (n + 0.5)) + 0.3 for one, n in counts.items() if n}
    usual = sum(weights.values()) / len(weights) if weights else 1.0
    return {one: weights.get(one, _ABSENT_SHARE * usual) for one in wanted}


def _match(one: str, found: list[str]) -> float:
    if one in found:
        return 1.0
    if len(one) < _PREFIX_MIN:
        return 0.0
    near = any(other[:_PREFIX_MIN] == one[:_PREFIX_MIN] and abs(len(other) - len(one)) <= 4 for other in found)
    return _PREFIX_SHARE if near else 0.0


def _shape(candidate: _Candidate) -> float:
    """Less than 1 for what reads badly alone: fragments, very short or very long units, leaning ones."""
    words = len(candidate.unit.text.split())
    factor = 1.0
    if candidate.unit.kind is Kind.SENTENCE:
        if not is_whole(candidate.unit.text):
            factor *= 0.8
        if candidate.unit.text.endswith("?"):
            factor *= 0.6
        if words < 5 and not candidate.unit.followers:
            factor *= 0.75
    if candidate.unit.kind is Kind.ROW:
        factor *= 0.95
    if words > 45:
        factor *= max(0.7, 1.0 - (words - 45) / 200)
    return factor * (0.95 if _LEANS.match(candidate.unit.text) else 1.0)


def _lift_neighbours(candidates: list[_Candidate]) -> None:
    """A sentence next to one that fits is more likely to be part of the answer."""
    scores = [candidate.score for candidate in candidates]
    for here, candidate in enumerate(candidates):
        around = [
            scores[other]
            for other in (here - 1, here + 1)
            if 0 <= other < len(candidates)
            and candidates[other].source is candidate.source
            and candidates[other].unit.block == candidate.unit.block
        ]
        if around:
            candidate.score += _NEIGHBOUR_SHARE * max(around)


def _form(question: str) -> Callable[[_Candidate], float]:
    """How well a unit has the form that the question asks for, 0 to 1."""
    asked = question.lower()
    if re.search(
        r"\b(how (many|much|long|old|often|large|big|fast|far|high)|what (year|date|time|number|port|version)|when)\b",
        asked,
    ):
        return lambda c: 1.0 if re.search(r"\d", c.unit.text) else 0.0
    if re.search(r"\b(how (do|can|should|would|to)|commands?|install|set ?up|run|start)\b", asked):
        return lambda c: 1.0 if _instructs(c) else 0.0
    if re.search(r"\bwhy\b", asked):
        reasons = re.compile(
            r"\b(because|since|so that|in order to|due to|reason|therefore|otherwise|as a result|avoids?)\b", re.I
        )
        return lambda c: 1.0 if reasons.search(c.unit.text) else 0.0
    if match := re.match(
        r"\s*(?:what|who)(?: is|'s| are| was| were| does)\s+(?:an? |the )?(.+?)(?: mean| do| stand for)?\s*\??\s*$",
        asked,
    ):
        subject = re.escape(match[1])
        defines = re.compile(
            rf"^\W*(?:an? |the )?{subject}\W*\s*(?:\([^)]*\)\s*)?(?:is|are|was|were|means|refers|stands|serves|:|–|—)",
            re.I,
        )
        return lambda c: 1.5 if defines.search(c.unit.text) else 0.0
    return lambda c: 0.0


def _instructs(candidate: _Candidate) -> bool:
    unit = candidate.unit
    announces_code = any(candidate.units[other].kind is Kind.CODE for other in unit.followers)
    return unit.kind is Kind.CODE or announces_code or bool(re.search(r"`[^`]+`", unit.text))


def _listing(question: str, wanted: list[str], candidates: list[_Candidate]) -> list[_Candidate]:
    """For a question that asks for several things: the list or table under a heading that names them all."""
    if not _ENUMERATES.search(question):
        return []
    groups: dict[tuple[int, str], list[_Candidate]] = {}
    for candidate in candidates:
        if candidate.unit.kind in (Kind.ITEM, Kind.ROW):
            groups.setdefault((candidate.rank, candidate.unit.heading), []).append(candidate)
    weights = _weights(wanted, candidates)
    for (_, heading), group in groups.items():
        named = set(terms(heading))
        covered = sum(weight for one, weight in weights.items() if one in named)
        if len(group) > 1 and covered >= _NAMED_SHARE * sum(weights.values()):
            return group[:ITEMS_LIMIT]
    return []


def _pick(best: _Candidate, candidates: list[_Candidate]) -> list[_Candidate]:
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


def _belongs(candidate: _Candidate, picked: list[_Candidate]) -> bool:
    """Whether it comes along already, as an item of a list that is quoted whole or as its lead."""
    return any(
        candidate.source is other.source
        and (candidate.at == other.at or candidate.unit.lead == other.at or other.unit.lead == candidate.at)
        for other in picked
    )


def _overlap(one: _Candidate, other: _Candidate) -> float:
    mine, theirs = set(one.terms), set(other.terms)
    return len(mine & theirs) / max(1, min(len(mine), len(theirs)))


def _quotes(picked: list[_Candidate]) -> Iterator[Quote]:
    """The picked units with what they cannot be read without: their lead, their list, or the sentence before."""
    given: set[tuple[int, int]] = set()
    for candidate in picked:
        for at in _with_context(candidate):
            if (candidate.rank, at) not in given:
                given.add((candidate.rank, at))
                unit = candidate.units[at]
                shows = candidate.own or at != candidate.at or not unit.heading
                yield Quote(candidate.source, at, unit.text, unit.kind, "" if shows else unit.heading)


def _with_context(candidate: _Candidate) -> list[int]:
    unit, at = candidate.unit, candidate.at
    if unit.followers:
        return [at, *unit.followers]
    if unit.lead >= 0 and unit.kind is Kind.CODE:
        return [unit.lead, at]
    before = candidate.units[at - 1] if at else None
    leans = unit.kind is Kind.SENTENCE and _LEANS.match(unit.text)
    if leans and before and before.block == unit.block and len(before.text.split()) <= 40:
        return [at - 1, at]
    if unit.kind is Kind.CODE and before and before.kind is Kind.SENTENCE and before.heading == unit.heading:
        return [at - 1, at]
    return [at]
