"""Finds tokens that spell given bytes. It knows nothing of how a tokenizer would cut them."""

from collections.abc import Sequence


class Spelling:
    """A vocabulary by its pieces; of tokens with equal pieces, the first stands for all."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._ids: dict[bytes, int] = {}
        for token, piece in enumerate(pieces):
            if piece:
                self._ids.setdefault(piece, token)
        self.longest_bytes = max(map(len, self._ids), default=1)

    def __repr__(self) -> str:
        return f"Spelling({len(self._ids)} pieces)"

    def spell(self, data: bytes, count: int) -> list[int] | None:
        """Exactly `count` tokens that spell `data`, or None where none do. Meant for the bytes of a few characters."""
        if count == 0:
            return None if data else []
        for length in range(len(data) - count + 1, 0, -1):
            token = self._ids.get(data[:length])
            if token is not None and (rest := self.spell(data[length:], count - 1)) is not None:
                return [token, *rest]
        return None
