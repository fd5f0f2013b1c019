"""Bytes become text without a gap, however the tokens cut characters and stop strings."""

import pytest

from services.worker.text import TextStage

WORD = "né東🙂".encode()


@pytest.mark.parametrize(
    ("stop", "pieces", "texts", "stopped"),
    [
        pytest.param((), [b"a", b"b"], ["a", "b", ""], False, id="plain"),
        pytest.param((), [bytes([byte]) for byte in "é".encode()], ["", "é", ""], False, id="two-byte-character"),
        pytest.param((), [b"\xe6\x9d", b"\xb1!"], ["", "東!", ""], False, id="character-ends-within-a-token"),
        pytest.param((), [b"a\xf0\x9f"], ["a", "\ufffd"], False, id="incomplete-at-the-end"),
        pytest.param((), [b"\xff", b"a"], ["\ufffd", "a", ""], False, id="no-utf8"),
        pytest.param(("END",), [b"one END two"], ["one ", ""], True, id="within-a-token"),
        pytest.param(("END",), [b"one E", b"N", b"D", b"x"], ["one ", "", "", "", ""], True, id="over-tokens"),
        pytest.param(("END",), [b"one E", b"N", b"G"], ["one ", "", "ENG", ""], False, id="prefix-that-was-none"),
        pytest.param(("END",), [b"EEN", b"D"], ["E", "", ""], True, id="prefix-begins-again"),
        pytest.param(("aab",), [b"aa", b"a", b"b"], ["", "a", "", ""], True, id="overlapping-prefix"),
        pytest.param(("END",), [b"one EN"], ["one ", "EN"], False, id="prefix-at-the-end"),
        pytest.param(("two", "one"), [b"one two"], ["", ""], True, id="earliest-wins"),
        pytest.param(("é",), [b"a\xc3", b"\xa9b"], ["a", "", ""], True, id="stop-over-a-character"),
        pytest.param(("é",), [b"a\xc3", b"\xa8b"], ["a", "èb", ""], False, id="other-character-with-the-same-lead"),
        pytest.param(("\n\n",), [b"a\n", b"b\n", b"\nc"], ["a", "\nb", "", ""], True, id="newlines"),
    ],
)
def test_text(stop: tuple[str, ...], pieces: list[bytes], texts: list[str], stopped: bool) -> None:
    stage = TextStage(stop)
    assert [*(stage.push(piece) for piece in pieces), stage.finish()] == texts
    assert stage.stopped is stopped


@pytest.mark.parametrize("stop", [(), ("東",), ("x", "é東🙃")], ids=["none", "met", "nearly-met"])
@pytest.mark.parametrize("at", range(len(WORD) + 1))
def test_a_replayed_stage_goes_on_where_the_first_stopped(stop: tuple[str, ...], at: int) -> None:
    pieces = [bytes([byte]) for byte in WORD]
    first = TextStage(stop)
    before = "".join(first.push(piece) for piece in pieces[:at])
    rest = "".join(first.push(piece) for piece in pieces[at:]) + first.finish()

    replayed = TextStage(stop)
    for piece in pieces[:at]:
        replayed.push(piece)
    assert "".join(replayed.push(piece) for piece in pieces[at:]) + replayed.finish() == rest
    assert (before + rest) == (WORD.decode().split("東")[0] if stop == ("東",) else WORD.decode())


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_grouping_changes_nothing(size: int) -> None:
    data = "Grüße, 世界! STOP here".encode()
    stage = TextStage(("STOP",))
    text = "".join(stage.push(data[at : at + size]) for at in range(0, len(data), size)) + stage.finish()
    assert text == "Grüße, 世界! "
