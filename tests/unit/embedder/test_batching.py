"""Which texts go together."""

import pytest

from services.embedder.batching import Waiting, next_batch, queries_next


@pytest.mark.parametrize(
    ("lengths", "batch_tokens", "expected"),
    [
        pytest.param([], 100, [], id="nothing waits"),
        pytest.param([10], 100, [0], id="one goes at once"),
        pytest.param([300], 100, [0], id="longer than a batch goes alone"),
        pytest.param([300, 300], 100, [0], id="two that are too long go one by one"),
        pytest.param([50, 50, 50], 100, [0, 1], id="the bound holds"),
        pytest.param([32] * 20, 512, list(range(16)), id="equals fill the batch in order of arrival"),
        pytest.param([100, 10, 100, 12], 1000, [0, 2], id="the oldest chooses its like"),
        pytest.param([10, 100, 12, 100], 1000, [0, 2], id="the oldest goes first though it is short"),
        pytest.param([100, 124, 126], 1000, [0, 1, 2], id="padding of up to a quarter"),
        pytest.param([100, 134], 1000, [0], id="padding of more than a quarter"),
        pytest.param([4, 12], 1000, [0, 1], id="short texts may differ by eight tokens"),
        pytest.param([4, 13], 1000, [0], id="and not by nine"),
        pytest.param([40, 50, 42], 100, [0, 2], id="nearest in length first"),
        pytest.param([40, 50, 41, 33], 120, [0, 2], id="padding counts toward the bound"),
        pytest.param([100, 80, 120], 1000, [0, 1], id="shortest and longest of a batch are alike too"),
    ],
)
def test_next_batch(lengths: list[int], batch_tokens: int, expected: list[int]) -> None:
    waiting = [Waiting(number, tokens) for number, tokens in enumerate(lengths)]
    assert next_batch(waiting, batch_tokens) == expected


@pytest.mark.parametrize(
    ("queries", "passages", "in_a_row", "expected"),
    [
        pytest.param(0, 0, 0, False, id="nothing waits"),
        pytest.param(1, 0, 0, True, id="only queries"),
        pytest.param(1, 0, 8, True, id="only queries, for a long time"),
        pytest.param(0, 1, 0, False, id="only passages"),
        pytest.param(1, 9, 7, True, id="queries first"),
        pytest.param(1, 9, 8, False, id="passages after enough queries"),
    ],
)
def test_queries_go_first(queries: int, passages: int, in_a_row: int, expected: bool) -> None:
    assert queries_next(queries, passages, in_a_row, limit=8) is expected


def test_every_text_gets_its_turn() -> None:
    left = [Waiting(number, 5 + number * 37 % 250) for number in range(300)]
    rounds = 0
    while left:
        chosen = next_batch(left, 512)
        assert chosen[0] == left[0].number
        left = [text for text in left if text.number not in set(chosen)]
        rounds += 1
    assert rounds < 300
