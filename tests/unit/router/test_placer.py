"""Placing as a whole: picks that reserve, estimates that learn, prefixes that are remembered, and what is explained."""

import random
from dataclasses import replace

import pytest

from services.router.core.chat import Chat, Message, Role, Sampling
from services.router.core.estimate import BYTES_PER_TOKEN_RANGE, Estimates
from services.router.core.pick import Refusal, RefusalKind, Wanted
from services.router.core.placer import Placed, Placer
from services.router.core.policies import POLICIES, Weights
from services.router.core.prefix import block_hashes, prompt_bytes
from services.router.core.table import WorkerTable
from services.router.core.worker import Hello, Load

M = Wanted("m")


def placer(policy: str = "prefix_aware", workers: int = 3, *, kv_events: bool = False, places: int = 6) -> Placer:
    table = WorkerTable(16)
    for number in range(workers):
        hello = Hello(f"w{number}", "one", "m", "fake", places, 0, 100_000, kv_events=kv_events)
        table.announce(hello.worker_id, f"a:{number}", 0.0)
        table.link_up(hello.worker_id, hello, 0.0)
    return Placer(table, policy, Weights(), random.Random(7))


def chat(text: str, session_id: str = "", max_tokens: int | None = None) -> Chat:
    return Chat("m", (Message(Role.USER, text),), Sampling(max_tokens=max_tokens), session_id=session_id)


def place(own: Placer, asked: Chat, now_s: float = 0.0) -> Placed:
    found = own.place(M, own.need(asked), now_s)
    assert isinstance(found, Placed)
    return found


def test_a_prompt_goes_where_its_prefix_is_and_says_so() -> None:
    own = placer()
    place(own, chat("x" * 9000))
    first = place(own, chat("a" * 4000))
    own.first_token(first, 0.5)
    own.release(first, finished=True)
    again = place(own, chat("a" * 4000 + "b" * 400))
    assert again.worker is first.worker
    assert again.why == "prefix_aware: 81 % of the prompt cached, 0 in flight"


def test_an_adapters_prompts_have_prefixes_of_their_own() -> None:
    own = placer(workers=0)
    own._table.announce("w0", "a:0", 0.0)
    own._table.link_up("w0", Hello("w0", "one", "m", "fake", 6, 0, 100_000, adapters=("fr",)), 0.0)
    model, adapter = own.need(chat("a" * 4000)), own.need(replace(chat("a" * 4000), model="fr"))
    assert model.hashes == block_hashes(prompt_bytes(chat("a" * 4000)))
    assert adapter.hashes == block_hashes(prompt_bytes(chat("a" * 4000)), "fr")
    assert not set(model.hashes) & set(adapter.hashes)


def test_the_load_is_reserved_at_the_pick() -> None:
    own = placer("least_loaded")
    placed = [place(own, chat("x" * 400)) for _ in range(6)]
    assert [p.worker.worker_id for p in placed] == ["w0", "w1", "w2"] * 2
    assert placed[0].reservation.uncached_tokens == 100
    for one in placed:
        own.release(one, finished=True)
    assert not any(p.worker.in_flight or p.worker.pending_tokens for p in placed)


def test_everyone_full_is_refused() -> None:
    own = placer(places=1)
    for _ in range(3):
        place(own, chat("x"))
    assert own.place(M, own.need(chat("x")), 0.0) == Refusal(RefusalKind.FULL, "m")


def test_turns_are_counted_for_each_model() -> None:
    own = placer("round_robin", workers=0)
    for number in range(4):
        hello = Hello(f"w{number}", "one", "mn"[number % 2], "fake", 6, 0, 100)
        own._table.announce(hello.worker_id, f"a:{number}", 0.0)
        own._table.link_up(hello.worker_id, hello, 0.0)
    served = [own.place(Wanted(model), own.need(chat("x")), 0.0) for model in "mnmn"]
    assert [p.worker.worker_id for p in served if isinstance(p, Placed)] == ["w0", "w1", "w2", "w3"]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_explaining_reserves_nothing_and_uses_no_chance_up(policy: str) -> None:
    own = placer(policy)
    for turn in range(12):
        need = own.need(chat(f"{turn % 3}" * 2000, session_id=f"s{turn}"))
        explained = [own.explain(M, need, turn) for _ in range(3)]
        found = own.place(M, need, turn)
        assert isinstance(found, Placed)
        assert {e.worker.worker_id for e in explained if e.worker} == {found.worker.worker_id}


def test_a_worker_that_reports_its_cache_is_believed_not_guessed() -> None:
    own = placer(kv_events=True)
    need = own.need(chat("a" * 4000))
    assert isinstance(own.place(M, need, 0.0), Placed)
    assert own._table.prefixes.match(need.hashes) == {}
    own._table.prefixes.store("w2", need.hashes)
    found = own.place(M, need, 0.0)
    assert isinstance(found, Placed)
    assert found.worker.worker_id == "w2"


def test_prompts_are_hashed_only_where_the_policy_asks() -> None:
    assert placer("least_loaded").need(chat("a" * 4000)).hashes == ()
    assert len(placer("token_aware").need(chat("a" * 4000)).hashes) == 7


def test_a_slow_worker_gets_less_though_it_reports_nothing() -> None:
    own = placer("token_aware", places=50)
    now_s, due = 0.0, list[tuple[float, Placed]]()
    free_s = {"w0": 0.0, "w1": 0.0, "w2": 0.0}
    counts = dict.fromkeys(free_s, 0)
    for turn in range(3000):
        # A tenth more than w0 and w1 can carry together.
        now_s += 0.018
        for at_s, one in [entry for entry in due if entry[0] <= now_s]:
            own.first_token(one, at_s)
            own.release(one, finished=True)
            due.remove((at_s, one))
        one = place(own, chat(f"{turn:04d}" * 100), now_s)
        name = one.worker.worker_id
        # 100 tokens each: 2,500 tokens a second on w0 and w1, four times fewer on w2.
        free_s[name] = max(free_s[name], now_s) + (0.16 if name == "w2" else 0.04)
        due.append((free_s[name], one))
        counts[name] += turn >= 1000
    assert counts["w2"] < 0.35 * counts["w0"], counts
    assert counts["w2"] > 0, "it is still tried"


def test_started_corrects_what_was_reserved() -> None:
    own = placer()
    found = place(own, chat("x" * 4000))
    own._table.report(found.worker.worker_id, Load(running=1, queued_tokens=1))
    own.started(found, prompt_tokens=2000, cached_tokens=1500)
    assert found.reservation.uncached_tokens == 500
    unknown = place(own, replace(chat("y" * 4000)))
    own.started(unknown, prompt_tokens=0, cached_tokens=0)
    assert unknown.reservation.uncached_tokens == 1000 or unknown.reservation.uncached_tokens > 0


def test_bytes_per_token_are_learned_within_bounds() -> None:
    own = Estimates()
    assert own.prompt_tokens("m", 4000) == 1000
    for _ in range(400):
        own.prompt_counted("m", 3000, 1000)
        own.prompt_counted("m", 0, 50)
    assert own.bytes_per_token("m") == pytest.approx(3.0, rel=0.01)
    assert own.bytes_per_token("other") == 4.0
    for tokens in (10**9, 1):
        for _ in range(400):
            own.prompt_counted("m", 1000, tokens)
        assert BYTES_PER_TOKEN_RANGE[0] <= own.bytes_per_token("m") <= BYTES_PER_TOKEN_RANGE[1]


def test_answers_lengths_are_learned_and_capped_by_what_is_asked_for() -> None:
    own = Estimates()
    for _ in range(400):
        own.answer_ended("m", 40)
    assert own.output_tokens("m", None) == 40
    assert own.output_tokens("m", 7) == 7
    assert own.output_tokens("other", 10**6) == 256
