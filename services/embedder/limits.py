"""What the embedder refuses, and in which words."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.kit.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class TextLimits:
    """How many texts a call may bring, and how long each may be."""

    max_texts: int
    max_text_bytes: int

    def check_all(self, texts: Sequence[str], field: str) -> None:
        """Raises InvalidArgument that names the field, as in `texts[3]`."""
        if not texts:
            raise InvalidArgument(f"{field} is empty; send at least one text", reason="NO_TEXT", field=field)
        if len(texts) > self.max_texts:
            raise InvalidArgument(
                f"{field} holds {len(texts)} texts, and {self.max_texts} is the most; send them in several calls",
                reason="TOO_MANY_TEXTS",
                field=field,
            )
        for index, text in enumerate(texts):
            self.check(text, f"{field}[{index}]")

    def check(self, text: str, field: str) -> None:
        """Raises InvalidArgument where the text is empty or too long."""
        if not text:
            raise InvalidArgument(f"{field} is empty; leave it out or give it text", reason="EMPTY_TEXT", field=field)
        # No character takes more than four bytes, so that most texts need no encoding here.
        if len(text) * 4 > self.max_text_bytes and (size := len(text.encode())) > self.max_text_bytes:
            raise InvalidArgument(
                f"{field} has {size} bytes, and {self.max_text_bytes} is the most; cut it into parts",
                reason="TEXT_TOO_LONG",
                field=field,
            )
