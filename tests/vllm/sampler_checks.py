"""Run by the interpreter that has vLLM and torch: checks of the sampler's numbers. Raises where one is wrong."""

import torch
from vllm.v1.sample.ops.penalties import apply_all_penalties

from services.worker.engines.vllm.asks import Asks
from services.worker.engines.vllm.sampler import ResumableSampler, Row, choose, gumbel, keys_of

VOCAB = 50


def keys(count: int, seed: int = 1) -> torch.Tensor:
    return torch.tensor([keys_of(seed, at) for at in range(count)], dtype=torch.int64)


def draw(logits: torch.Tensor, count: int, temperature: float = 1.0, p: float = 1.0, k: int = 0) -> torch.Tensor:
    """How often each token was chosen in so many places, as shares."""
    rows = logits.repeat(count, 1)
    chosen = choose(
        rows,
        keys(count),
        torch.full((count,), temperature),
        torch.full((count,), p) if p < 1.0 else None,
        torch.full((count,), k) if k else None,
        k or logits.shape[0],
    )
    return torch.bincount(chosen, minlength=logits.shape[0]) / count


def check_noise_is_gumbel() -> None:
    noise = gumbel(keys(2_000), torch.arange(100)[None, :])
    assert torch.isfinite(noise).all()
    # Its mean is Euler's constant, its variance pi squared over 6.
    assert abs(noise.mean().item() - 0.5772) < 0.01
    assert abs(noise.var().item() - 1.6449) < 0.02
    by_token, by_place = noise.mean(dim=0), noise.mean(dim=1)
    assert by_token.std() < 0.05
    assert by_place.std() < 0.2
    assert abs(torch.corrcoef(noise[:2].float())[0, 1].item()) < 0.4


def check_shares_are_the_probabilities() -> None:
    torch.manual_seed(1)
    logits = torch.randn(VOCAB) * 2
    for temperature in (0.5, 1.0, 1.7):
        expected = (logits / temperature).softmax(-1)
        assert (draw(logits, 40_000, temperature) - expected).abs().max() < 0.012


def check_top_k_and_top_p() -> None:
    torch.manual_seed(2)
    logits = torch.randn(VOCAB) * 2
    order = logits.argsort(descending=True)
    shares = draw(logits, 20_000, k=5)
    assert set(shares.nonzero().flatten().tolist()) == set(order[:5].tolist())
    probabilities = logits.softmax(-1)
    nucleus = order[: int((probabilities[order].cumsum(0) < 0.8).sum()) + 1]
    shares = draw(logits, 20_000, p=0.8)
    assert set(shares.nonzero().flatten().tolist()) <= set(nucleus.tolist())
    expected = torch.zeros(VOCAB).scatter(0, nucleus, probabilities[nucleus] / probabilities[nucleus].sum())
    assert (shares - expected).abs().max() < 0.015
    # The smallest nucleus is the best token alone.
    assert draw(logits, 100, p=1e-6)[order[0]] == 1.0


def check_a_row_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(3)
    logits = torch.randn(8, VOCAB)
    every = choose(logits, keys(8), torch.ones(8), torch.full((8,), 0.9), torch.full((8,), 20), 20)
    for at in range(8):
        one = slice(at, at + 1)
        alone = choose(
            logits[one], keys(8)[one], torch.ones(1), torch.full((1,), 0.9), torch.full((1,), 1 << 40), VOCAB
        )
        kept = choose(logits[one], keys(8)[one], torch.ones(1), torch.full((1,), 0.9), torch.full((1,), 20), 20)
        assert kept.item() == every[at].item()
        assert 0 <= alone.item() < VOCAB


def check_penalties_are_vllms_wherever_it_is_resumed() -> None:
    torch.manual_seed(4)
    prompt, answer = [1, 2, 3, 3], [3, 4, 5, 5, 5]
    logits = torch.randn(1, VOCAB)
    expected = apply_all_penalties(
        logits.clone(),
        torch.tensor([prompt]),
        torch.tensor([0.7]),
        torch.tensor([0.4]),
        torch.tensor([1.3]),
        [answer],
    )
    for resumed in range(len(answer) + 1):
        asks = Asks(None, 1.0, 1.0, 0, 0.7, 0.4, 1.3, resumed)
        sampler = ResumableSampler(None, torch.device("cpu"), False)
        output: list[int] = []
        sampler._rows[0] = Row(asks, prompt + answer[:resumed], output)
        sampler._penalised = [(0, sampler._rows[0])]
        for token in answer[resumed:]:
            sampler.apply(logits.clone())
            output.append(token)
        assert torch.equal(sampler.apply(logits.clone()), expected), resumed
        assert sampler._rows[0].position == len(answer)


if __name__ == "__main__":
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check()
            print(name, flush=True)
