"""A stream's life as a table (RFC 9113, section 5.1): what may happen in which state.

A client opens each stream, so the states of a promised one are left out. What is not in the table is an error of the
stream (STREAM_CLOSED); a frame on a stream that was never opened is an error of the connection.
"""

from enum import Enum, auto


class State(Enum):
    """Where a stream stands. `HALF_CLOSED_REMOTE`: the request is complete. `HALF_CLOSED_LOCAL`: the answer is."""

    IDLE = auto()
    OPEN = auto()
    HALF_CLOSED_REMOTE = auto()
    HALF_CLOSED_LOCAL = auto()
    CLOSED = auto()


class Move(Enum):
    """What happens to a stream."""

    HEADERS = auto()
    DATA = auto()
    REQUEST_END = auto()
    ANSWER_END = auto()
    RESET = auto()


MOVES: dict[tuple[State, Move], State] = {
    (State.IDLE, Move.HEADERS): State.OPEN,
    (State.OPEN, Move.HEADERS): State.OPEN,
    (State.OPEN, Move.DATA): State.OPEN,
    (State.OPEN, Move.REQUEST_END): State.HALF_CLOSED_REMOTE,
    (State.OPEN, Move.ANSWER_END): State.HALF_CLOSED_LOCAL,
    (State.OPEN, Move.RESET): State.CLOSED,
    (State.HALF_CLOSED_REMOTE, Move.ANSWER_END): State.CLOSED,
    (State.HALF_CLOSED_REMOTE, Move.RESET): State.CLOSED,
    (State.HALF_CLOSED_LOCAL, Move.HEADERS): State.HALF_CLOSED_LOCAL,
    (State.HALF_CLOSED_LOCAL, Move.DATA): State.HALF_CLOSED_LOCAL,
    (State.HALF_CLOSED_LOCAL, Move.REQUEST_END): State.CLOSED,
    (State.HALF_CLOSED_LOCAL, Move.RESET): State.CLOSED,
}
