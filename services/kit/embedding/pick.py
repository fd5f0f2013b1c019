"""Decides which embedder a call goes to. Pure: no clock, no channel."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

# The rate that is assumed where no replica has told one yet: a small model on one core.
_TOKENS_PER_S = 5_000.0


class Standing(Enum):
    """What is known of a replica; the values are what people are told."""

    UNHEARD = "not heard of yet"
    SERVING = "serving"
    DRAINING = "draining"
    AWAY = "away"
    OTHER_MODEL = "another model is served there"


@dataclass(frozen=True, slots=True)
class View:
    """A replica as the choice sees it. `tokens_ahead`: those that wait there, and those sent since it told its load."""

    address: str
    standing: Standing
    lets_through: bool
    tokens_ahead: float
    tokens_per_s: float
    under_way: int


def pick(replicas: Sequence[View], tried: Collection[str]) -> str | None:
    """The address with the least expected wait among those that serve, are not broken and were not tried yet.

    A replica that has not told its rate is taken to be as fast as the others are on average. Equals go to the one with
    the fewest calls under way, then by address. None where no replica is left.
    """
    open_ones = [
        one for one in replicas if one.standing is Standing.SERVING and one.lets_through and one.address not in tried
    ]
    rates = [one.tokens_per_s for one in open_ones if one.tokens_per_s > 0]
    usual = sum(rates) / len(rates) if rates else _TOKENS_PER_S

    def order(one: View) -> tuple[float, int, str]:
        return one.tokens_ahead / (one.tokens_per_s or usual), one.under_way, one.address

    return min(open_ones, key=order).address if open_ones else None
