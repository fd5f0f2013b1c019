"""Scores the units of the sources against a question. Pure.

A unit's score is the share of the question that it covers, each term weighted by how rare it is among the units
(idf), plus what its heading and title cover, its neighbours, the form that the question asks for, and the source's
rank. The constants were set by reading answers on manuals, papers and articles.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from services.worker.engines.reader.sentences import Kind, Unit, is_whole, split
from services.worker.engines.reader.sources import Source
from services.worker.engines.reader.terms import pairs, terms

UNITS_LIMIT = 2_000

_HEADING_SHARE = 0.55
_TITLE_SHARE = 0.3
_PAIR_BONUS = 0.12
_NEIGHBOUR_SHARE = 0.12
_FORM_BONUS = 0.14
_RANK_STEP = 0.03
_ABSENT_SHARE = 0.6
_PREFIX_MIN = 5
_PREFIX_SHARE = 0.6
LEANS = re.compile(
    r"^(it|its|this|that|these|those|they|their|he|she|his|her|such|however|but|also|therefore|thus|hence|then|and|so"
    r"|in addition|moreover|furthermore|otherwise|instead|for example|for instance)\b",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Candidate:
    """A unit of a source, with its terms; `own` are those of the question that stand in its text."""

    source: Source
    rank: int
    at: int
    unit: Unit
    units: list[Unit]
    terms: list[str]
    own: frozenset[str] = frozenset()
    coverage: float = 0.0
    score: float = 0.0


def candidates_of(sources: tuple[Source, ...]) -> list[Candidate]:
    """Every unit of the sources, in order, at most `UNITS_LIMIT`."""
    found: list[Candidate] = []
    for rank, source in enumerate(sources):
        units = split(source.text)
        for at, unit in enumerate(units):
            if len(found) < UNITS_LIMIT:
                found.append(Candidate(source, rank, at, unit, units, terms(unit.text)))
    return found


def score_all(question: str, wanted: list[str], candidates: list[Candidate]) -> None:
    """Fills in each candidate\'s coverage (0 to 1, and a little over) and score."""
    weights = weigh(wanted, candidates)
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


def weigh(wanted: list[str], candidates: list[Candidate]) -> dict[str, float]:
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


def _shape(candidate: Candidate) -> float:
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
    return factor * (0.95 if LEANS.match(candidate.unit.text) else 1.0)


def _lift_neighbours(candidates: list[Candidate]) -> None:
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


def _form(question: str) -> Callable[[Candidate], float]:
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
            rf"^\W*(?:an? |the )?{subject}\W*(?:\([^)]{{0,80}}\)\s*)?"
            r"(?:is|are|was|were|means|refers|stands|serves|:|–|—)",
            re.I,
        )
        return lambda c: 1.5 if defines.search(c.unit.text) else 0.0
    return lambda c: 0.0


def _instructs(candidate: Candidate) -> bool:
    unit = candidate.unit
    announces_code = any(candidate.units[other].kind is Kind.CODE for other in unit.followers)
    return unit.kind is Kind.CODE or announces_code or bool(re.search(r"`[^`]+`", unit.text))
