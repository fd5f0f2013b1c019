"""The child's end of a pipe of length-prefixed frames. Imports next to nothing, so that a child starts at once."""

import os
import signal
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

from services.kit.leash import die_with_parent

LENGTH = struct.Struct("!Q")


def read_frame(pipe: BinaryIO) -> bytes | None:
    """The next frame; None where the other end has closed."""
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    size = LENGTH.unpack(head)[0]
    frame = pipe.read(size)
    return frame if len(frame) == size else None


def write_frame(pipe: BinaryIO, frame: bytes) -> None:
    """Writes one frame at once."""
    pipe.write(LENGTH.pack(len(frame)))
    pipe.write(frame)
    pipe.flush()


def become_child() -> None:
    """First thing in a child: it ends with its parent, and leaves SIGINT to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def answer_frames(answer: Callable[[bytes], tuple[bytes, bool]]) -> None:
    """Answers each frame from stdin on stdout until stdin ends, or `answer` says with its second value to stop.

    What anything else prints goes to stderr, where it cannot break a frame.
    """
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    pipe = sys.stdin.buffer
    write_frame(out, b"ready")
    while (frame := read_frame(pipe)) is not None:
        reply, go_on = answer(frame)
        write_frame(out, reply)
        if not go_on:
            return
