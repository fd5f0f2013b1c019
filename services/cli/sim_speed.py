"""Reads how fast each simulated worker is to be."""

import math
from collections.abc import Sequence

from services.cli.problem import UsageProblem


def sim_speeds(values: Sequence[str], workers: int) -> tuple[float, ...]:
    """One factor for each worker from a repeated option, each value a number or several with commas between.

    One number is every worker's; none leaves the settings alone. Raises UsageProblem.
    """
    speeds = [_speed(part) for value in values for part in value.split(",")]
    if len(speeds) == 1:
        return (speeds[0],) * workers
    if speeds and len(speeds) != workers:
        raise UsageProblem(
            f"--sim-speed has {len(speeds)} numbers, and --workers is {workers}: give one number or one for each worker"
        )
    return tuple(speeds)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0.0 < speed < math.inf:
        raise UsageProblem(f"--sim-speed: {text.strip()!r} is no number above 0; an example is --sim-speed 1,0.25")
    return speed
