"""Histograms of times in the form of HdrHistogram: whole, so that any quantile can be asked for later."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

LOWEST_US = 1
HIGHEST_US = 3_600_000_000
DIGITS = 3
QUANTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
# HdrHistogram's layout for three digits: 2,048 cells for the smallest values, then 1,024 for each doubling.
_HALF_BITS = 10
_HALF = 1 << _HALF_BITS
_CELLS = ((HIGHEST_US.bit_length() - _HALF_BITS) + 1) * _HALF

Times = NDArray[np.float64]


class Histogram:
    """Times, exact to three digits, from 1 µs to an hour; longer ones count as an hour."""

    __slots__ = ("_counts", "_sum_us", "count", "max_s")

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] | None = None
        self._sum_us = 0.0
        self.count = 0
        """How many were recorded."""
        self.max_s = 0.0
        """The longest; 0.0 where there is none."""

    def __repr__(self) -> str:
        return f"Histogram(count={self.count} p50={self.quantile_s(50.0):.6f} p99={self.quantile_s(99.0):.6f})"

    def record(self, seconds: float) -> None:
        """One time."""
        micros = min(HIGHEST_US, max(LOWEST_US, round(seconds * 1e6)))
        self._cells()[_cell(micros)] += 1
        self._add(1, micros, seconds)

    def record_all(self, seconds: Times) -> None:
        """Many times at once, which is what makes the figures of a token cheap."""
        if seconds.size:
            micros = np.clip(np.rint(seconds * 1e6), LOWEST_US, HIGHEST_US).astype(np.int64)
            found = np.bincount(_cells_of(micros))
            self._cells()[: found.size] += found
            self._add(seconds.size, float(micros.sum()), float(seconds.max()))

    def _add(self, count: int, sum_us: float, max_s: float) -> None:
        self.count += count
        self._sum_us += sum_us
        self.max_s = max(self.max_s, max_s)

    def _cells(self) -> NDArray[np.int64]:
        if self._counts is None:
            self._counts = np.zeros(_CELLS, dtype=np.int64)
        return self._counts

    def quantile_s(self, percent: float) -> float:
        """The time that this share of them does not exceed; 0.0 where there is none."""
        if not self.count:
            return 0.0
        wanted = max(1, int(np.ceil(self.count * percent / 100.0)))
        cell = int(np.searchsorted(np.cumsum(self._cells()), wanted))
        return min(self.max_s, _highest_us(cell) / 1e6) if self.max_s > 1e-6 else self.max_s

    @property
    def mean_s(self) -> float:
        """Their mean; 0.0 where there is none."""
        return self._sum_us / self.count / 1e6 if self.count else 0.0

    def add(self, other: "Histogram") -> None:
        """Takes all of another's times in."""
        if other.count:
            self._cells()[:] += other._cells()
            self._add(other.count, other._sum_us, other.max_s)

    def points(self) -> Iterator[tuple[float, int]]:
        """Times in seconds, each with how often it was recorded, shortest first."""
        cells = self._cells()
        for cell in np.nonzero(cells)[0].tolist():
            yield _highest_us(cell) / 1e6, int(cells[cell])

    def summary(self) -> dict[str, float | int]:
        """Count, mean, largest and the usual quantiles, in ms."""
        found: dict[str, float | int] = {"count": self.count, "mean_ms": self.mean_s * 1e3, "max_ms": self.max_s * 1e3}
        for percent in QUANTILES:
            found[f"p{percent:g}_ms"] = self.quantile_s(percent) * 1e3
        return {name: round(value, 4) for name, value in found.items()}

    def encoded(self) -> str:
        """HdrHistogram's own compressed form (V2, base64), which its tools in every language read."""
        hdr = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        for seconds, count in self.points():
            hdr.record_value(round(seconds * 1e6), count)
        raw: bytes = hdr.encode()
        return raw.decode()

    @classmethod
    def decoded(cls, text: str) -> "Histogram":
        """The histogram that was `encoded`. Raises ValueError where it is none."""
        found = cls()
        try:
            hdr: Any = HdrHistogram.decode(text)
        except Exception as error:
            raise ValueError(f"no HdrHistogram: {error}") from error
        for item in hdr.get_recorded_iterator():
            micros, count = int(item.value_iterated_to), int(item.count_added_in_this_iter_step)
            found._cells()[_cell(min(HIGHEST_US, micros))] += count
            found._add(count, float(micros) * count, micros / 1e6)
        return found


def _cell(micros: int) -> int:
    """Where a value is counted."""
    double = max(0, micros.bit_length() - 1 - _HALF_BITS)
    return double * _HALF + (micros >> double)


def _cells_of(micros: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same for many. The exponent of a double is the place of an integer's highest bit, exact below 2**53."""
    exponents = np.frexp(micros.astype(np.float64))[1].astype(np.int64) - 1
    double = np.maximum(0, exponents - _HALF_BITS)
    cells: NDArray[np.int64] = double * _HALF + (micros >> double)
    return cells


def _highest_us(cell: int) -> int:
    """The largest value that is counted there."""
    double = max(0, (cell >> _HALF_BITS) - 1)
    return ((cell - double * _HALF + 1) << double) - 1


def gaps_s(times: Times, counts: NDArray[np.uint32]) -> Times:
    """Times between the tokens of one answer: 0 for each that came in one chunk with the token before it."""
    together = int(counts.sum()) - len(times)
    return np.concatenate([np.diff(times), np.zeros(max(0, together))])
