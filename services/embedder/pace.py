"""How fast a model embeds, learned from its batches; recent and large ones count most. Does no timing itself."""

# What callers are told before anything was measured.
_FIRST_TEXT_S = 0.01
# Each batch lets the earlier ones count for so much less.
_DECAY = 0.95
_RETRY_MIN_S = 0.1
_RETRY_MAX_S = 30.0


class Pace:
    """Texts and tokens a second of `parallel` batches side by side."""

    def __init__(self, parallel: int) -> None:
        self._parallel = parallel
        self._texts = self._tokens = self._elapsed_s = 0.0

    def __repr__(self) -> str:
        return f"Pace({self.tokens_per_s:.0f} tokens/s)"

    def add(self, texts: int, tokens: int, elapsed_s: float) -> None:
        """A batch of this size took this long."""
        self._texts = self._texts * _DECAY + texts
        self._tokens = self._tokens * _DECAY + tokens
        self._elapsed_s = self._elapsed_s * _DECAY + elapsed_s

    @property
    def tokens_per_s(self) -> float:
        """While it is busy; 0 where nothing was measured yet."""
        return self._parallel * self._tokens / self._elapsed_s if self._elapsed_s > 0 else 0.0

    def retry_delay_s(self, texts: int) -> float:
        """The time in which half of so many waiting texts will be done, within reason."""
        text_s = self._elapsed_s / self._texts if self._texts else _FIRST_TEXT_S
        return min(max(texts * text_s / self._parallel / 2, _RETRY_MIN_S), _RETRY_MAX_S)
