"""Grammars in llama.cpp's notations for structures that it has no words for."""

from collections.abc import Iterable


def choices_grammar(choices: Iterable[str]) -> str:
    """A GBNF grammar of exactly these strings."""
    return "root ::= " + " | ".join(f'"{_escaped(choice)}"' for choice in choices)


def _escaped(text: str) -> str:
    """As it stands in a GBNF literal."""
    known = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "".join(known.get(char) or (char if char >= " " else f"\\x{ord(char):02x}") for char in text)


def regex_grammar(regex: str) -> str:
    """A grammar for the llguidance library, which builds of llama.cpp have that know regular expressions."""
    escaped, at = "", 0
    while at < len(regex):
        # What is escaped already stays so; a slash would end the expression.
        step = 2 if regex[at] == "\\" and at + 1 < len(regex) else 1
        part = regex[at : at + step]
        escaped += {"/": "\\/", "\n": "\\n"}.get(part, part)
        at += step
    return f"%llguidance {{}}\nstart: /{escaped}/"
