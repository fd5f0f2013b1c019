"""What vLLM brings becomes text and an end, the same however its tokens are grouped and wherever they are resumed."""

from collections.abc import Iterable

from services.worker.engines.vllm.answer import Answer
from services.worker.ports import Reason, Rendered, Sampling, Tokens, Work

PIECES = (b"", b"a", b"b", "é".encode()[:1], "é".encode()[1:], b"<en", b"d>", b"c")
END = 0


def answer(stop: tuple[str, ...] = (), resume: Iterable[int] = ()) -> Answer:
    work = Work(1, Rendered("x"), Sampling(stop=stop), tuple(resume))
    return Answer(work, 1, PIECES.__getitem__, lambda token: PIECES[token].decode(errors="replace"), frozenset([END]))


def take(one: Answer, ids: list[int], *, stopped: bool = False, over: bool = False) -> Tokens | None:
    return one.take(ids, None, stopped=stopped, over=over or stopped)


def test_the_end_mark_is_no_part_of_the_answer() -> None:
    one = answer()
    assert take(one, [1]) == Tokens(1, 0, [1], "a")
    assert take(one, [END], stopped=True) is None
    assert one.finish(Reason.STOP).completion_tokens == 1


def test_several_tokens_at_once_end_at_the_stop_string() -> None:
    one = answer(stop=("<end>",))
    assert take(one, [1, 5]) == Tokens(1, 0, [1, 5], "a")
    assert take(one, [6, 7, 7]) == Tokens(1, 2, [6], "")
    assert one.stage.stopped
    assert one.finish(Reason.STOP).completion_tokens == 3


def test_what_was_held_back_comes_with_the_end() -> None:
    one = answer(stop=("<end>",))
    assert take(one, [5]) == Tokens(1, 0, [5], "")
    assert take(one, [END], stopped=True) == Tokens(1, 1, [], "<en")


def test_it_resumes_in_the_middle_of_a_character_and_of_a_stop_string() -> None:
    assert take(answer(resume=[1, 3]), [4]) == Tokens(1, 2, [4], "é")
    resumed = answer(stop=("<end>",), resume=[1, 5])
    assert take(resumed, [6]) == Tokens(1, 2, [6], "")
    assert resumed.stage.stopped
