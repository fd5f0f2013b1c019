"""Bytes that no client should send: the lane answers every one of them, or ends the connection, and never raises."""

import random

import pytest

from services.kit.lane.connection import Broken, Completed, Opened
from services.kit.lane.frames import PREFACE, Kind, Setting, frame, settings, window_update
from services.kit.lane.headers import read_head
from services.kit.lane.limits import Limits
from services.kit.lane.message import Request
from tests.unit.kit.lane.peer import HEADERS, Peer

ROUNDS = 300
LIMITS = Limits(max_streams=8, window_bytes=65_535, connection_window_bytes=65_535, noise_limit=200, reset_limit=100)


def frames(chance: random.Random, peer: Peer) -> bytes:
    """Some frames: valid ones, ones with random contents, and plain noise."""
    stream_id = chance.choice([0, 1, 1, 3, 5, 7, chance.randrange(2**31)])
    match chance.randrange(8):
        case 0:
            return peer.request(chance.randrange(1, 60) | 1)
        case 1:
            headers = [(name, chance.choice([value, "", "x" * 50])) for name, value in HEADERS if chance.random() < 0.9]
            return peer.head(chance.randrange(1, 60) | 1, headers, end=chance.random() < 0.3)
        case 2:
            return window_update(stream_id, chance.choice([0, 1, 1000, 2**31 - 1]))
        case 3:
            values = {chance.choice(list(Setting)): chance.choice([0, 1, 10, 16_384, 2**31, 2**32 - 1])}
            return settings(values)
        case 4:
            return chance.randbytes(chance.randrange(30))
        case _:
            payload = chance.randbytes(chance.choice([0, 1, 4, 5, 8, 6, 40]))
            return frame(chance.choice([*Kind, 99]), chance.randrange(256), stream_id, payload)


@pytest.mark.parametrize("seed", range(8))
def test_no_bytes_raise(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        peer = Peer(LIMITS)
        data = bytearray(
            PREFACE + settings({}) + b"".join(frames(chance, peer) for _ in range(chance.randrange(1, 40)))
        )
        for _ in range(chance.choice([0, 0, 1, 5])):
            data[chance.randrange(len(PREFACE), len(data))] = chance.randrange(256)
        broken = False
        while data and not broken:
            size = chance.randrange(1, 200)
            for event in peer.server.receive(bytes(data[:size]), peer.now_s):
                broken = isinstance(event, Broken)
                answer(chance, event)
            del data[:size]
            assert len(peer.server.streams) <= LIMITS.max_streams
            assert peer.server.out.window >= 0
            if chance.random() < 0.1:
                peer.server.out.paused = not peer.server.out.paused
                peer.server.pump()
        assert broken == peer.server.broken


def answer(chance: random.Random, event: object) -> None:
    """What calls would do."""
    if isinstance(event, Opened):
        read_head(event.fields)
        if chance.random() < 0.2:
            event.stream.end(b"\x88")
    elif isinstance(event, Completed):
        event.stream.head(b"\x88")
        for _ in range(chance.randrange(4)):
            if not event.stream.push(bytes(chance.randrange(3000))):
                event.stream.send(bytes(chance.randrange(3000)))
        if chance.random() < 0.7:
            event.stream.end(b"\x88")


@pytest.mark.parametrize("seed", range(4))
def test_no_body_raises(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(1000):
        request = Request(20)
        for _ in range(chance.randrange(6)):
            if request.feed(bytes(chance.choice([0, 0, 0, 1, 3, 255]) for _ in range(chance.randrange(9)))):
                break
        request.whole()
        assert len(request) <= 20 + 5 + 9
