"""Decides what happens when a process ends: start it again after a delay, or give up."""

from dataclasses import dataclass

START_ATTEMPTS = 3
FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 10.0
STEADY_AFTER_S = 30.0
WRONG_SETTINGS = 2


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended. `code` is its exit status, negative for a signal; `failures` counts the ends in a row before
    this one that came before STEADY_AFTER_S; `ever_ready` says whether any run of it became ready."""

    code: int
    ran_s: float
    ever_ready: bool
    failures: int


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after `delay_s`; `failures` is the count to remember."""

    delay_s: float
    failures: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Starting it again would not help."""

    reason: str


def after_end(ended: Ended) -> Restart | GiveUp:
    """A process that never became ready has START_ATTEMPTS; one that did is started for as long as the mesh is up."""
    if not ended.ever_ready and ended.code == WRONG_SETTINGS:
        return GiveUp("its settings are wrong")
    failures = 0 if ended.ran_s >= STEADY_AFTER_S else ended.failures + 1
    if not ended.ever_ready and failures >= START_ATTEMPTS:
        return GiveUp(f"it ended {failures} times before it was ready, the last time {how(ended.code)}")
    return Restart(min(FIRST_DELAY_S * 2**failures, LONGEST_DELAY_S), failures)


def how(code: int) -> str:
    """An exit status in words: `with code 1`, or `by signal 9`."""
    return f"by signal {-code}" if code < 0 else f"with code {code}"
