"""Faults on a timetable: what to do to which worker and when, and what clients noticed of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from loadtest.load.collect import Life
from loadtest.load.record import OK


class What(StrEnum):
    """What is done to a worker."""

    KILL = "kill"
    HANG = "hang"
    SLOW = "slow"
    DRAIN = "drain"
    PARTITION = "partition"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Fault:
    """`length_s` is how long it hangs, is slow or cut off; `factor` how many times slower it is."""

    at_s: float
    what: What
    worker: str
    length_s: float = 3.0
    factor: float = 4.0


class WrongFault(ValueError):
    """A fault that cannot be; the message says what to write."""


def parse(text: str, workers: Sequence[str]) -> Fault:
    """AT:WHAT:WORKER[:SECONDS[:FACTOR]], such as `5:kill:worker-0` or `10:slow:worker-1:5:4`. Raises WrongFault."""
    parts = text.split(":")
    try:
        at_s, what, worker = float(parts[0]), What(parts[1]), parts[2]
        numbers = [float(part) for part in parts[3:5]]
    except (IndexError, ValueError) as error:
        names = ", ".join(What)
        raise WrongFault(f"{text!r} is no AT:WHAT:WORKER[:SECONDS[:FACTOR]], with WHAT one of {names}") from error
    if worker not in workers:
        raise WrongFault(f"{text!r}: there is no {worker!r}, only {', '.join(workers)}")
    if at_s < 0 or any(number <= 0 for number in numbers) or len(parts) > 5:
        raise WrongFault(f"{text!r}: times and factors are above 0, and there are at most five parts")
    return Fault(at_s, what, worker, *numbers)


@dataclass(frozen=True, slots=True)
class Effect:
    """What clients noticed of one fault: of the answers that its worker had then, and of those until the next one.

    `recovery_s` is the longest silence of an answer on that worker that began before the fault was over and was not
    over when it came; 0.0 where nobody noticed. Where the transport names no workers, every answer counts.
    """

    fault: Fault
    under_way: int
    moved: int
    failed: int
    lost: int
    repeated: int
    recovery_s: float

    def as_json(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "at_s": round(self.fault.at_s, 3),
            "what": self.fault.what.value,
            "worker": self.fault.worker,
            "under_way": self.under_way,
            "moved": self.moved,
            "failed": self.failed,
            "lost_tokens": self.lost,
            "repeated_tokens": self.repeated,
            "recovery_ms": round(self.recovery_s * 1e3, 1),
        }


USUAL = 1.5
"""A silence this many times the usual longest one is noticed."""


def effects(faults: Sequence[Fault], lives: Sequence[Life]) -> list[Effect]:
    """One for each fault, in order of time. An answer that lived through several counts for each."""
    ordered = sorted(faults, key=lambda fault: fault.at_s)
    calm = sorted(life.gap_s for life in lives if not life.moves and life.code == OK)
    usual_s = calm[len(calm) // 2] * USUAL if calm else 0.0
    found = []
    for number, fault in enumerate(ordered):
        until_s = ordered[number + 1].at_s if number + 1 < len(ordered) else float("inf")
        whose = (fault.worker, "")
        here = [life for life in lives if life.due_s <= fault.at_s < life.ended_s and life.host_at(fault.at_s) in whose]
        near = [life for life in lives if fault.at_s <= life.ended_s < until_s]
        silent = [
            life.gap_s
            for life in lives
            if life.gap_s > usual_s
            and life.gap_at_s < until_s
            and life.gap_at_s + life.gap_s > fault.at_s
            and life.gap_at_s <= fault.at_s + fault.length_s
            and life.host_at(life.gap_at_s) in whose
        ]
        found.append(
            Effect(
                fault,
                under_way=len(here),
                moved=sum(life.moves > 0 for life in here),
                failed=sum(life.code != OK for life in near),
                lost=sum(life.lost for life in near),
                repeated=sum(life.repeated for life in near),
                recovery_s=max(silent, default=0.0),
            )
        )
    return found
