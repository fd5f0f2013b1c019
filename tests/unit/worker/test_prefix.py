"""Prefix hashes: the worker's and the router's halves of the contract give the same numbers."""

import hashlib

import pytest

from services.router.core import prefix as router
from services.router.core.chat import Chat
from services.router.core.chat import Message as RouterMessage
from services.router.core.chat import Role as RouterRole
from services.worker.ports import Conversation, Message, Prompt, Rendered, Role, Tokenised
from services.worker.prefix import BLOCK_BYTES, prefix_hashes, prompt_bytes

LONG = "Ångström 東京 " * 200
TURNS = [("system", "Be brief."), ("user", LONG), ("assistant", ""), ("tool", "x" * 511), ("user", "and now?")]


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        pytest.param(
            Conversation(tuple(Message(Role(role), text) for role, text in TURNS)),
            Chat(model="m", messages=tuple(RouterMessage(RouterRole[role.upper()], text) for role, text in TURNS)),
            id="conversation",
        ),
        pytest.param(Rendered(LONG), Chat(model="m", messages=(), raw_prompt=LONG), id="text"),
        pytest.param(Rendered("short"), Chat(model="m", messages=(), raw_prompt="short"), id="no-whole-block"),
    ],
)
def test_worker_and_router_agree(mine: Prompt, theirs: Chat) -> None:
    assert BLOCK_BYTES == router.BLOCK_BYTES
    found = prefix_hashes(prompt_bytes(mine))
    assert found == router.prefix_hashes(theirs)
    assert len(found) == len(prompt_bytes(mine)) // BLOCK_BYTES


def test_an_adapter_has_prefixes_of_its_own() -> None:
    data = b"x" * 1024
    seed = hashlib.blake2b("früh".encode(), digest_size=8).digest()
    first = hashlib.blake2b(seed + data[:512], digest_size=8).digest()
    found = prefix_hashes(data, "früh")
    assert found[0] == int.from_bytes(first, "little")
    assert not set(found) & set(prefix_hashes(data))
    assert found == router.block_hashes(data, "früh"), "the router's half gives the same numbers"


def test_token_ids_are_four_bytes_each() -> None:
    assert prompt_bytes(Tokenised((1, 256, 4_294_967_295))) == b"\1\0\0\0\0\1\0\0\xff\xff\xff\xff"


def test_a_hash_names_the_whole_prefix() -> None:
    one, other = (prefix_hashes(first * 512 + b"c" * 1024) for first in (b"a", b"b"))
    assert len(one) == len(other) == 3
    assert not set(one) & set(other)
