"""What happens when a process ends."""

import pytest

from services.cli.restart import LONGEST_DELAY_S, START_ATTEMPTS, Ended, GiveUp, Restart, after_end


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        pytest.param(Ended(1, 0.1, False, 0), Restart(0.4, 1), id="first end at start"),
        pytest.param(Ended(1, 0.1, False, 1), Restart(0.8, 2), id="second end at start waits longer"),
        pytest.param(
            Ended(1, 0.1, False, START_ATTEMPTS - 1),
            GiveUp("it ended 3 times before it was ready, the last time with code 1"),
            id="too often at start",
        ),
        pytest.param(
            Ended(-9, 0.1, False, START_ATTEMPTS - 1),
            GiveUp("it ended 3 times before it was ready, the last time by signal 9"),
            id="a signal is named",
        ),
        pytest.param(Ended(2, 0.1, False, 0), GiveUp("its settings are wrong"), id="wrong settings do not mend"),
        pytest.param(Ended(2, 0.1, True, 0), Restart(0.4, 1), id="code 2 after it was ready is like any other"),
        pytest.param(Ended(-9, 99.0, True, 7), Restart(0.2, 0), id="a steady run forgets failures"),
        pytest.param(Ended(-9, 1.0, True, 50), Restart(LONGEST_DELAY_S, 51), id="the delay has a bound, attempts none"),
    ],
)
def test_after_end(ended: Ended, expected: Restart | GiveUp) -> None:
    assert after_end(ended) == expected
