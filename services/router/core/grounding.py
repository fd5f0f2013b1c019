"""Checks an answer against its passages: where its citations point, and which of its sentences have support there.

It compares words and knows nothing of their meaning.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from services.router.core.grounding_text import CITATION, Unit, disclaims, runs, units, words_of

ANSWER_LIMIT = 100_000
"""Characters of an answer that are checked; what comes after them is not looked at."""
FOUND_LIMIT = 1000
"""Citations, and sentences without support, that are told of one answer; the share counts all of them."""
_STATEMENT_WEIGHT = 2
"""Content below which a sentence says nothing that could be checked, such as `Sure.`"""


@dataclass(frozen=True, slots=True)
class Given:
    """A passage that the prompt held. `text` is all that the model saw of it, title and headings included."""

    document_id: str
    chunk_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Citation:
    """A number that the answer cites, and where, in characters; the ids are empty where no passage has it."""

    number: int
    offset: int
    valid: bool
    document_id: str = ""
    chunk_id: str = ""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A sentence with too little support, from `start` to before `end`, in characters; `support` is 0 to 1."""

    start: int
    end: int
    support: float


@dataclass(frozen=True, slots=True)
class Grounding:
    """How well an answer rests on its passages."""

    citations: tuple[Citation, ...] = ()
    unsupported: tuple[Unsupported, ...] = ()
    supported_share: float = 1.0
    given_passages: int = 0


@dataclass(slots=True)
class _Sentence:
    """One unit of the answer with its words, each once with its weight, and the numbers that it cites."""

    unit: Unit
    words: dict[str, int]
    cited: list[int] = field(default_factory=list)


def ground(answer: str, given: Sequence[Given], threshold: float) -> Grounding:
    """Looks at each citation and each sentence; `threshold` is the support, 0 to 1, that a sentence needs.

    A sentence's support is the share of its content words that stand in the passages which it cites, or in any where
    it cites none that was given; a number counts as four words. Headings, questions, and sentences that say that the
    sources do not hold the answer, are no statements.
    """
    answer = answer[:ANSWER_LIMIT]
    vocabulary = _Vocabulary(given)
    citations: list[Citation] = []
    unsupported: list[Unsupported] = []
    statements = failed = 0
    sentences = _sentences(answer, citations, given)
    for sentence in sentences:
        unit, weight = sentence.unit, sum(sentence.words.values())
        cited = [number for number in sentence.cited if 0 < number <= len(given)]
        # A single word is a statement where it is the whole answer, or where it is given a source.
        enough = 1 if cited or len(sentences) == 1 else _STATEMENT_WEIGHT
        if weight < enough or unit.states_nothing:
            continue
        support = vocabulary.support(sentence.words, cited) / weight
        if support < threshold and disclaims(answer[unit.start : unit.end]):
            continue
        statements += 1
        if support < threshold:
            failed += 1
            if len(unsupported) < FOUND_LIMIT:
                unsupported.append(Unsupported(unit.start, unit.end, support))
    share = 1.0 - failed / statements if statements else 1.0
    return Grounding(tuple(citations), tuple(unsupported), share, len(given))


def _sentences(answer: str, citations: list[Citation], given: Sequence[Given]) -> list[_Sentence]:
    """The answer's sentences; a line of citations alone belongs to what stands before it. Fills in `citations`."""
    found: list[_Sentence] = []
    content: dict[str, dict[str, int]] = {}
    for unit in units(answer):
        cited, text = _cited(answer, unit, citations, given)
        words: dict[str, int] = {}
        for run in runs(text):
            known = content.get(run)
            if known is None:
                known = content[run] = {word: weight for word, weight in words_of(run) if weight}
            words |= known
        if words or not found:
            found.append(_Sentence(unit, words, cited))
        else:
            found[-1].cited += cited
    return found


def _cited(answer: str, unit: Unit, citations: list[Citation], given: Sequence[Given]) -> tuple[list[int], str]:
    """The numbers that a unit cites, and its text without them. Brackets in code cite nothing."""
    text = answer[unit.start : unit.end]
    if unit.is_code or not ("[" in text or "【" in text):
        return [], text
    numbers: list[int] = []
    kept: list[str] = []
    at, in_code = 0, False
    for found in CITATION.finditer(text):
        if found[2]:
            in_code = not in_code
        elif not in_code:
            cited = [int(number) for number in found[1].replace(";", ",").split(",")]
            numbers += cited
            room = FOUND_LIMIT - len(citations)
            citations += [_citation(number, unit.start + found.start(), given) for number in cited[:room]]
            kept.append(text[at : found.start()])
            at = found.end()
    return numbers, " ".join([*kept, text[at:]])


def _citation(number: int, offset: int, given: Sequence[Given]) -> Citation:
    if not 0 < number <= len(given):
        return Citation(number, offset, valid=False)
    passage = given[number - 1]
    return Citation(number, offset, True, passage.document_id, passage.chunk_id)


_ENDINGS = 2
_SHORTEST = 4
_LONGEST = 6


class _Vocabulary:
    """Which passage has which word: for each word a number whose bits are the passages.

    Words are compared by their beginnings, of 4 to 6 letters, so that endings of most languages do not count; and a
    word of the answer may be up to two letters longer than the passage's.
    """

    def __init__(self, given: Sequence[Given]) -> None:
        self._whole: dict[str, int] = {}
        self._begun: dict[str, int] = {}
        self._known: dict[str, int] = {}
        for number, passage in enumerate(given):
            for word in {word for run in set(runs(passage.text)) for word, _ in words_of(run)}:
                self._whole[word] = self._whole.get(word, 0) | 1 << number
        for word, holders in self._whole.items():
            for size in range(_SHORTEST, min(_LONGEST, len(word) - 1) + 1):
                start = word[:size]
                self._begun[start] = self._begun.get(start, 0) | holders
        self._all = (1 << len(given)) - 1

    def support(self, words: dict[str, int], cited: Iterable[int]) -> int:
        """Weight of those words that stand in the cited passages, numbered from 1; in any where none is cited."""
        mask = 0
        for number in cited:
            mask |= 1 << (number - 1)
        mask = mask or self._all
        return sum(weight for word, weight in words.items() if self._holders(word) & mask)

    def _holders(self, word: str) -> int:
        found = self._known.get(word)
        if found is None:
            found = self._known[word] = self._find(word)
        return found

    def _find(self, word: str) -> int:
        found = self._whole.get(word, 0)
        # Numbers are equal or they are not.
        if len(word) >= _SHORTEST and not word[0].isdecimal():
            found |= self._begun.get(word[:_LONGEST], 0)
            for size in range(max(_SHORTEST, len(word) - _ENDINGS), len(word)):
                found |= self._whole.get(word[:size], 0)
        return found
