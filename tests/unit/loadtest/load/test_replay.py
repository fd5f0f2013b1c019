"""Traces as requests: their times, and beginnings that are shared where the trace's were."""

from pathlib import Path

import pytest

from loadtest.load.commands.replay import chosen, read, requests
from loadtest.load.prompts import Pool, from_blocks
from services.cli.problem import UsageProblem


def _text(blocks: tuple[int, ...], tokens: int, number: int) -> str:
    ((_, text),) = from_blocks(Pool(1), blocks, tokens, 8, number)
    return text


def test_equal_blocks_are_equal_text_at_the_same_place() -> None:
    one, two = _text((0, 7, 9), 24, 1), _text((0, 7, 11), 24, 2)
    shared = len(_text((0, 7), 16, 3))
    assert one[:shared] == two[:shared]
    assert one[shared:] != two[shared:]
    assert one.startswith(_text((0, 7, 9), 20, 4)), "a block that is cut is the beginning of the whole one"


def test_prompts_without_blocks_differ() -> None:
    assert _text((), 30, 1) != _text((), 30, 2)


@pytest.mark.parametrize("size", [1.0, 0.1])
def test_mooncake_keeps_its_times_lengths_and_prefixes(data_dir: Path, size: float) -> None:
    file = data_dir / "traces" / "mooncake_conversation.jsonl"
    if not file.exists():
        pytest.skip(f"{file} is missing")
    part = chosen(read(file, 1), 4.0, 60.0, 120.0, 200)
    found = list(requests(part, size, 1))
    dues = [one.due_s for one in found]
    assert len(found) > 20
    assert dues == sorted(dues)
    assert min(dues) >= 0.0
    assert max(dues) <= 30.0
    for one, trace in zip(found, part, strict=True):
        words = one.messages[0][1].split()
        assert len(words) == pytest.approx(trace.prompt_tokens * size, abs=3)


def test_azure_of_2023(data_dir: Path) -> None:
    file = data_dir / "traces" / "azure_2023_conversation.csv"
    if not file.exists():
        pytest.skip(f"{file} is missing")
    found = read(file, 1)
    assert len(found) == 19_366
    assert (found[0].arrival_s, found[0].prompt_tokens, found[0].output_tokens) == (0.0, 374, 44)
    assert found[1].arrival_s == pytest.approx(4.314579, abs=1e-6)


def test_azure_of_2024(tmp_path: Path) -> None:
    """Its times have a zone, and some no fraction, or a short one."""
    file = tmp_path / "azure.csv"
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens", "2024-05-10 00:00:00.009930+00:00,2162,5"]
    lines += ["2024-05-10 00:00:01+00:00,10,6", "2024-05-10 00:00:00.5+00:00,11,7"]
    file.write_text("\n".join(lines) + "\n")
    assert [round(one.arrival_s, 6) for one in read(file, 1)] == [0.0, 0.49007, 0.99007]


@pytest.mark.parametrize("text", ["", "[1, 2]\n", '{"timestamp": 1}\n', "no json\n"])
def test_what_is_no_trace_is_said(tmp_path: Path, text: str) -> None:
    file = tmp_path / "wrong.jsonl"
    file.write_text(text)
    with pytest.raises(UsageProblem, match=r"wrong\.jsonl"):
        read(file, 1)
