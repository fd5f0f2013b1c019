"""A queue that shares turns fairly between callers, however much each has sent. It decides the order and no more."""

from collections.abc import Iterator
from itertools import islice
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """What waits: a number of its own, and whose it is."""

    number: int
    caller: object


Item = TypeVar("Item", bound=Queued)


class _Turn(Generic[Item]):
    """One caller's items in order of arrival, and what it has been served, on the queue's own clock."""

    __slots__ = ("items", "served")

    def __init__(self, served: float) -> None:
        self.items: dict[int, Item] = {}
        self.served = served


class FairQueue(Generic[Item]):
    """Start-time fair queueing: whoever was served least goes first, and a new caller begins where the queue stands.

    A caller with a thousand items and one with a single item therefore wait about as long for their next one.
    """

    def __init__(self) -> None:
        self._turns: dict[object, _Turn[Item]] = {}
        self._clock = 0.0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        for turn in self._turns.values():
            yield from turn.items.values()

    def put(self, item: Item) -> None:
        """Appends to its caller's items."""
        turn = self._turns.get(item.caller)
        if turn is None:
            turn = self._turns[item.caller] = _Turn(self._clock)
        turn.items[item.number] = item
        self._length += 1

    def remove(self, item: Item) -> bool:
        """Takes an item out; False where it is not here."""
        turn = self._turns.get(item.caller)
        if turn is None or turn.items.pop(item.number, None) is None:
            return False
        self._length -= 1
        if not turn.items:
            del self._turns[item.caller]
        return True

    def serve(self, item: Item, cost: float) -> None:
        """Takes an item out because its turn has come; its caller is charged `cost`."""
        turn = self._turns[item.caller]
        turn.served += cost
        self.remove(item)

    def window(self, limit: int) -> list[Item]:
        """Up to `limit` items in the order in which they are due: one of each caller, least served first, and again.

        Looking at it moves the queue's clock to the least served caller.
        """
        turns = sorted(self._turns.values(), key=lambda turn: turn.served)
        if not turns:
            return []
        self._clock = max(self._clock, turns[0].served)
        if len(turns) == 1:
            return list(islice(turns[0].items.values(), limit))
        return list(islice(_in_turns([iter(turn.items.values()) for turn in turns]), limit))


def _in_turns(callers: list[Iterator[Item]]) -> Iterator[Item]:
    while callers:
        left = []
        for items in callers:
            for item in items:
                yield item
                left.append(items)
                break
        callers = left
