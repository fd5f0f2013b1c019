"""Tokens' bytes become text: incomplete characters and possible stop strings are held back. Pure; one per request."""

import codecs
from collections.abc import Iterable


class TextStage:
    """Takes each token's bytes in order and says what text may be shown.

    What has been shown after k tokens depends on those k tokens alone, not on how they were grouped. So a stage that
    is fed the resumed tokens again, its text thrown away, goes on exactly where the first one stopped, in the middle
    of a character or of a stop string too.
    """

    def __init__(self, stop: Iterable[str] = ()) -> None:
        self._stops = tuple(text.encode() for text in stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = b""
        self.stopped = False

    def __repr__(self) -> str:
        return f"TextStage(stops={self._stops} held={self._held!r} stopped={self.stopped})"

    def push(self, piece: bytes) -> str:
        """The text that this token completes; once a stop string was met, `stopped` is set and more is ignored."""
        if self.stopped:
            return ""
        if not self._stops:
            return self._decoder.decode(piece)
        data = self._held + piece
        found = min((at for stop in self._stops if (at := data.find(stop)) >= 0), default=-1)
        if found >= 0:
            self.stopped, self._held = True, b""
            return self._decoder.decode(data[:found], True)
        keep = max(_prefix_at_end(data, stop) for stop in self._stops)
        self._held = data[len(data) - keep :]
        return self._decoder.decode(data[: len(data) - keep])

    def finish(self) -> str:
        """What was held back, when no token follows; an incomplete character becomes U+FFFD."""
        if self.stopped:
            return ""
        data, self._held = self._held, b""
        return self._decoder.decode(data, True)


def _prefix_at_end(data: bytes, stop: bytes) -> int:
    """Length of the longest end of `data` with which `stop` may begin; less than the whole of `stop`."""
    for length in range(min(len(stop) - 1, len(data)), 0, -1):
        if data.endswith(stop[:length]):
            return length
    return 0
