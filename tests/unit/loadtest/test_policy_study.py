"""The study of placing policies, on the beginning of the real traces."""

from pathlib import Path

import pytest

from loadtest.policy_study import SCENARIOS, Figures, checks, markdown, means, requests_of, run
from loadtest.traces import TraceRequest, ideal_share
from services.router.core.policies import POLICIES

LIMIT = 800


@pytest.fixture
def traces(data_dir: Path) -> Path:
    folder = data_dir / "traces"
    if not (folder / "mooncake_conversation.jsonl").is_file():
        pytest.skip(f"{folder} has no mooncake_conversation.jsonl; docs/policies.md says where it comes from")
    return folder


def test_ideal_share_counts_leading_blocks() -> None:
    prompts = [(1, 2, 3), (1, 2, 4), (4, 1), (1, 2, 3)]
    requests = [TraceRequest(0.0, 1, 1, blocks) for blocks in prompts]
    assert ideal_share(requests) == pytest.approx((0 + 2 + 2 + 3) / 11)
    assert ideal_share(requests, 3) == pytest.approx((0 + 2 + 2 + 2) / 11)


def test_the_ideal_on_the_whole_trace_is_the_published_one(traces: Path) -> None:
    requests = requests_of(SCENARIOS[0], traces, 1)
    assert len(requests) == 12_031
    assert ideal_share(requests) == pytest.approx(0.366, abs=0.001)


def test_the_default_policy_keeps_its_promises_from_the_beginning(traces: Path) -> None:
    found = {}
    for scenario in SCENARIOS[:2]:
        for policy in ("round_robin", "least_loaded", "prefix_aware"):
            found[scenario, policy] = run(scenario, policy, 1, traces, LIMIT)[0]
    equal, slow = SCENARIOS[:2]
    ideal = ideal_share(requests_of(equal, traces, 1, LIMIT))
    own = found[equal, "prefix_aware"]
    assert own.hit >= 0.9 * ideal
    assert own.ttft_p99_s <= found[equal, "least_loaded"].ttft_p99_s
    assert own.spread < 1.5
    assert found[slow, "prefix_aware"].ttft_p99_s <= found[slow, "round_robin"].ttft_p99_s / 2
    assert found[slow, "prefix_aware"].slow < 0.5


def test_the_same_seed_gives_the_same_figures(traces: Path) -> None:
    for policy in ("random", "prefix_aware"):
        assert run(SCENARIOS[0], policy, 3, traces, 300) == run(SCENARIOS[0], policy, 3, traces, 300)


def test_means_checks_and_page() -> None:
    found = [
        means([Figures(scenario.name, policy, str(seed), seed, 2, 3, 4, 0.35, 1, 1) for seed in (1, 2)])
        for scenario in SCENARIOS
        for policy in POLICIES
    ]
    assert (found[0].seeds, found[0].ttft_p50_s) == ("1 2", 1.5)
    passed = checks(found, 0.366)
    assert [ok for _, ok in passed] == [True, True, False, False]
    page = markdown(found, passed)
    assert page.count("| prefix_aware |") == len(SCENARIOS)
    assert page.count("**Not met**") == 2
