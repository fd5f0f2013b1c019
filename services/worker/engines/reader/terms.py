"""Words become comparable terms: lower case, a light stem, and one name for each group of synonyms."""

import re
from collections.abc import Iterable
from itertools import pairwise

_WORD = re.compile(r"[^\W_]+(?:[._'’-][^\W_]+)*|[^\W_]+")
_PART = re.compile(r"[^\W_]+")

_STOPWORDS_TEXT = """
a about above according across after all also am an and answer any anyone anything are as at be because been before
being below between both but by can could describe did do document documentation documents does doing done down
during each either else ever every explain few find for from further get give given gives go going got had happen
happens has have having he her here hers him his how i if in into is it its itself just know let like made make
makes many may me mean mention mentioned might more most much must my need needed no nor not of off on once one only
or other our out over own passage per please question same say says shall she should show so some source sources
such tell text than that the their them then there these they thing things this those through to too under until up
upon us use used uses using very want was way we were what what's when where which while who whom whose why will
with within without work works would you your yours
"""
STOPWORDS = frozenset(_STOPWORDS_TEXT.split())

_SYNONYMS: dict[str, str] = {
    word: group[0]
    for group in (
        ("install", "setup", "installation"),
        ("start", "launch", "boot", "run"),
        ("setting", "config", "configuration", "configure", "option", "parameter"),
        ("delete", "remove", "erase"),
        ("error", "fail", "failure", "crash", "die"),
        ("fast", "quick", "speed", "latency"),
        ("big", "large", "size"),
        ("build", "compile"),
        ("author", "writer"),
        ("stop", "shutdown", "halt", "terminate"),
        ("requirement", "prerequisite", "dependency"),
        ("license", "licence"),
        ("limit", "maximum", "max"),
        ("folder", "directory"),
        ("begin", "beginning"),
        ("purpose", "goal", "aim"),
        ("cost", "price", "fee"),
    )
    for word in group
}

_SUFFIXES = (
    ("ational", "ate"), ("ization", "ize"), ("isation", "ize"), ("ations", "ate"), ("ation", "ate"),
    ("ements", "e"), ("ement", "e"), ("ments", ""), ("ment", ""), ("nesses", ""), ("ness", ""),
    ("ingly", ""), ("ings", ""), ("ing", ""), ("edly", ""), ("ies", "y"), ("ied", "y"),
    ("sses", "ss"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("ers", "er"), ("ed", ""), ("ly", ""), ("s", ""),
)  # fmt: skip
_STEM_MIN = 3
_VOWEL = re.compile(r"[aeiouy]")
_SAFE_S = ("ss", "us", "is")


def stem(word: str) -> str:
    """A word's stem: only common English endings go, and short words stay as they are."""
    for ending, instead in _SUFFIXES:
        if not word.endswith(ending):
            continue
        if ending == "s" and word.endswith(_SAFE_S):
            break
        root = word[: len(word) - len(ending)]
        if len(root) < _STEM_MIN or not _VOWEL.search(root):
            break
        word = root + instead
        break
    if len(word) > _STEM_MIN + 1 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    if len(word) > _STEM_MIN and word.endswith("e"):
        word = word[:-1]
    return word


_CANONICAL = {stem(word): stem(first) for word, first in _SYNONYMS.items()}


def term(word: str) -> str:
    """The term that a lower-case word stands for."""
    stemmed = stem(word)
    return _CANONICAL.get(stemmed, stemmed)


def terms(text: str) -> list[str]:
    """Terms in order, stop words left out; `max_tokens` also gives `max` and `token`."""
    found = []
    for whole in _WORD.findall(text.lower().replace("_", "-")):
        parts = _PART.findall(whole)
        if len(parts) > 1 and "'" not in whole and "’" not in whole:
            found.append("-".join(parts))
        elif len(parts) > 1:
            parts = parts[:1]
        found += [term(part) for part in parts if part not in STOPWORDS]
    return found


def pairs(found: Iterable[str]) -> set[tuple[str, str]]:
    """Terms that stand next to each other."""
    listed = list(found)
    return set(pairwise(listed))
