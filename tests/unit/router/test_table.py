"""The worker table: who is known, how they are, what is placed on them."""

from dataclasses import replace

from services.router.core.reservation import started
from services.router.core.table import IdTaken, TableFull, WorkerTable
from services.router.core.worker import Hello, Load, Worker, WorkerState

HELLO = Hello("w1", "one", "m", "fake", 4, 2, 100)


def known(table: WorkerTable, worker_id: str = "w1", address: str = "a:1", now_s: float = 0.0) -> Worker:
    row = table.announce(worker_id, address, now_s)
    assert isinstance(row, Worker)
    return row


def up(table: WorkerTable, hello: Hello = HELLO, now_s: float = 1.0) -> Worker:
    row = table.link_up(hello.worker_id, hello, now_s)
    assert isinstance(row, Worker)
    return row


def test_life_of_a_worker() -> None:
    table = WorkerTable(8)
    assert known(table).state is WorkerState.CONNECTING
    assert up(table).state is WorkerState.SERVING
    table.report("w1", Load(running=1, draining=True))
    assert next(iter(table)).state is WorkerState.DRAINING
    table.link_down("w1", "gone", 5.0)
    row = next(iter(table))
    assert (row.state, row.state_reason, row.load) == (WorkerState.AWAY, "gone", Load())
    up(table, replace(HELLO, incarnation="two"), 9.0)
    assert (row.state, row.restarts, row.since_s) == (WorkerState.SERVING, 1, 9.0)


def test_link_that_comes_back_is_no_restart() -> None:
    table = WorkerTable(8)
    known(table)
    up(table)
    table.link_down("w1", "cut", 2.0)
    assert up(table, now_s=3.0).restarts == 0


def test_a_broken_engine_is_suspect_until_it_works_and_may_then_be_tried_again() -> None:
    table = WorkerTable(8)
    known(table)
    row = up(table)
    before = row.epoch
    table.report("w1", Load(broken="no memory"))
    assert (row.state, row.state_reason) == (WorkerState.SUSPECT, "its engine is broken: no memory")
    table.suspect("w1", "silent")
    assert "no memory" in row.state_reason, "the cause goes before what it looks like"
    table.suspect("w1", "")
    table.report("w1", Load(broken="still none"))
    assert (row.state, row.epoch) == (WorkerState.SUSPECT, before)
    table.report("w1", Load())
    assert (row.state, row.epoch) == (WorkerState.SERVING, before + 1)


def test_adapters_are_names_in_the_table_until_they_are_models() -> None:
    table = WorkerTable(8)
    known(table)
    row = up(table, replace(HELLO, adapters=("a", "b")))
    assert row.names == ("m", "a", "b")
    assert [row.serves(name) for name in ("m", "a", "x", "")] == [True, True, False, False]
    assert (set(table.models), set(table.adapters)) == ({"m", "a", "b"}, {"a", "b"})
    known(table, "w2", "b:1")
    up(table, replace(HELLO, worker_id="w2", model="a", adapters=("m",)))
    assert set(table.adapters) == {"b"}


def test_operators_drain_lasts_until_the_process_is_new() -> None:
    table = WorkerTable(8)
    known(table)
    up(table)
    table.drain("w1")
    table.report("w1", Load(running=1))
    assert next(iter(table)).state is WorkerState.DRAINING
    table.link_down("w1", "cut", 2.0)
    assert up(table).state is WorkerState.DRAINING
    table.link_down("w1", "gone", 3.0)
    assert up(table, replace(HELLO, incarnation="two")).state is WorkerState.SERVING


def test_busy_is_what_is_reported_or_placed_whichever_is_more() -> None:
    table = WorkerTable(8)
    known(table)
    row = up(table)
    first = table.reserve("w1")
    assert row.busy == 1
    started(first, 0)
    table.report("w1", Load(running=2, waiting=1))
    assert row.busy == 3
    table.release(first, finished=True)
    second = table.reserve("w1")
    assert row.busy == 4, "the report does not hold it yet"
    table.release(second, finished=None)
    table.release(second, finished=True)
    assert (row.in_flight, row.finished, row.failed) == (0, 1, 0)


def test_bounds_and_conflicts() -> None:
    table = WorkerTable(1)
    known(table)
    assert table.announce("w2", "b:1", 0.0) == TableFull(1)
    up(table)
    assert table.announce("w1", "elsewhere:1", 0.0) == IdTaken("a:1")
    table.link_down("w1", "gone", 1.0)
    assert known(table, "w1", "elsewhere:1").address == "elsewhere:1"


def test_listed_worker_takes_the_id_that_it_says() -> None:
    table = WorkerTable(8)
    known(table, "a_1", "a:1")
    row = table.link_up("a_1", HELLO, 1.0)
    assert isinstance(row, Worker)
    assert [w.worker_id for w in table] == ["w1"]


def test_two_workers_with_one_id_do_not_share_a_row() -> None:
    table = WorkerTable(8)
    known(table)
    up(table)
    known(table, "b_1", "b:1")
    assert table.link_up("b_1", HELLO, 1.0) == IdTaken("a:1")
    assert [w.worker_id for w in table] == ["b_1", "w1"]


def test_only_idle_workers_that_are_long_away_are_forgotten() -> None:
    table = WorkerTable(8)
    for worker_id in ("away", "busy", "serving", "announced"):
        known(table, worker_id, f"{worker_id}:1")
        up(table, replace(HELLO, worker_id=worker_id))
    table.reserve("busy")
    for worker_id in ("away", "busy", "announced"):
        table.link_down(worker_id, "gone", 2.0)
    known(table, "announced", "announced:1", now_s=50.0)
    assert table.forget(10.0) == ["away"]
    assert "m" in table.models, "a model stays known"


def test_version_changes_with_whatever_a_watcher_sees() -> None:
    table = WorkerTable(8)
    known(table)
    up(table)
    before = table.version
    table.report("w1", Load())
    assert table.version == before, "a reading that says nothing new is no change"
    table.report("w1", Load(running=1))
    assert table.version > before
