"""Whether a worker is alive: its step counter moves while it has work, and it is heard from. Time is an argument."""

from dataclasses import dataclass
from enum import Enum


class Pulse(Enum):
    """How a worker is; the value is said to people."""

    WELL = ""
    SILENT = "it has not been heard from"
    STALLED = "its step counter stands still while it has work"


@dataclass(frozen=True, slots=True)
class PulseLimits:
    """`silent_s` without a word keeps new requests away; `stall_s` without a step while there is work moves old ones.

    A worker that says how long one of its steps may take is given that long, where it is more than `stall_s`. One that
    hung is suspect until it steps again, or is heard of again after a silence; since an idle engine does not step, one
    that spoke all along may prove itself after `probe_s`.
    """

    silent_s: float = 1.0
    stall_s: float = 5.0
    probe_s: float = 30.0


class Heartbeat:
    """One link's pulse. A busy worker steps, however slowly; a hung one does not: that is the whole difference."""

    def __init__(self, limits: PulseLimits, longest_step_s: float, now_s: float) -> None:
        self._limits = limits
        self._stall_s = max(limits.stall_s, longest_step_s)
        self._heard_s = now_s
        self._step_count = -1
        self._moved_s = now_s
        self._had_work = False
        self._stalled_s: float | None = None

    def __repr__(self) -> str:
        return f"Heartbeat(steps={self._step_count} moved_s={self._moved_s:.1f})"

    def stepped(self, step_count: int, now_s: float) -> None:
        """A load report came. After a silence it shows that the worker, or the way to it, is back.

        A worker that spoke all along while its engine stood still shows nothing by speaking on.
        """
        was_silent = now_s - self._heard_s >= self._limits.silent_s
        self._heard_s = now_s
        if step_count != self._step_count or (was_silent and self._stalled_s is not None):
            self._step_count, self._moved_s, self._stalled_s = step_count, now_s, None

    def check(self, has_work: bool, now_s: float) -> Pulse:
        """How it is. The clock for a stall starts when there is work, not at the last step before it."""
        if has_work and not self._had_work:
            self._moved_s = max(self._moved_s, now_s)
        self._had_work = has_work
        if has_work and now_s - self._moved_s >= self._stall_s:
            self._stalled_s = now_s
        if self._stalled_s is not None and now_s - self._stalled_s < self._limits.probe_s:
            return Pulse.STALLED
        if now_s - self._heard_s >= self._limits.silent_s:
            return Pulse.SILENT
        return Pulse.WELL
