"""Finds the licence that a document names for itself. Judges nothing."""

import re

MAX_CHARS = 256

_HEAD_CHARS = 8192
_ID = r"[A-Za-z0-9][A-Za-z0-9.+-]*"
_SPDX = re.compile(rf"SPDX-License-Identifier:[ \t]*(\(?{_ID}(?:[ \t]+(?:OR|AND|WITH)[ \t]+{_ID})*\)?)")


def licence_of(text: str, declared: str) -> str:
    """The declared one, or that of an SPDX-License-Identifier line near the text's beginning; empty: none is named."""
    declared = " ".join(declared.split())
    if 0 < len(declared) <= MAX_CHARS:
        return declared
    found = _SPDX.search(text, 0, _HEAD_CHARS)
    return found.group(1)[:MAX_CHARS] if found else ""
