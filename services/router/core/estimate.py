"""What a request will cost in tokens before a worker has counted them: learned per model from what workers report."""

from dataclasses import dataclass

BYTES_PER_TOKEN_AT_FIRST = 4.0
BYTES_PER_TOKEN_RANGE = (1.0, 16.0)
OUTPUT_TOKENS_AT_FIRST = 256.0
MODELS_LIMIT = 1024
# Share of the newest answer in each mean.
_NEWEST = 1 / 32
# Weight of the first guess, as the length of a prompt: longer prompts outweigh it at once.
_FIRST_TOKENS = 64.0


@dataclass(slots=True)
class _Means:
    """Moving means of one model's prompts and answers. The ratio is of two means, so that long prompts count more."""

    prompt_bytes: float = BYTES_PER_TOKEN_AT_FIRST * _FIRST_TOKENS
    prompt_tokens: float = _FIRST_TOKENS
    output_tokens: float = OUTPUT_TOKENS_AT_FIRST


class Estimates:
    """One set of means for each model. Beyond `MODELS_LIMIT` models, the first guesses serve for the rest."""

    def __init__(self) -> None:
        self._models: dict[str, _Means] = {}

    def __repr__(self) -> str:
        return f"Estimates({', '.join(f'{name}: {self.bytes_per_token(name):.2f}' for name in sorted(self._models))})"

    def bytes_per_token(self, model: str) -> float:
        """Within `BYTES_PER_TOKEN_RANGE`, whatever the workers report."""
        means = self._models.get(model)
        if means is None:
            return BYTES_PER_TOKEN_AT_FIRST
        low, high = BYTES_PER_TOKEN_RANGE
        return min(high, max(low, means.prompt_bytes / means.prompt_tokens))

    def prompt_tokens(self, model: str, prompt_bytes: int) -> int:
        """At least 1."""
        return max(1, round(prompt_bytes / self.bytes_per_token(model)))

    def output_tokens(self, model: str, max_tokens: int | None) -> int:
        """The model's mean answer, or the most that this one may have where that is less; at least 1."""
        means = self._models.get(model)
        mean = means.output_tokens if means else OUTPUT_TOKENS_AT_FIRST
        return max(1, round(mean if max_tokens is None else min(mean, max_tokens)))

    def prompt_counted(self, model: str, prompt_bytes: int, prompt_tokens: int) -> None:
        """A worker counted a prompt. Empty ones teach nothing."""
        means = self._of(model)
        if means and prompt_bytes > 0 and prompt_tokens > 0:
            means.prompt_bytes += (prompt_bytes - means.prompt_bytes) * _NEWEST
            means.prompt_tokens += (prompt_tokens - means.prompt_tokens) * _NEWEST

    def answer_ended(self, model: str, output_tokens: int) -> None:
        """An answer is complete."""
        means = self._of(model)
        if means:
            means.output_tokens += (output_tokens - means.output_tokens) * _NEWEST

    def _of(self, model: str) -> _Means | None:
        means = self._models.get(model)
        if means is None and len(self._models) < MODELS_LIMIT:
            means = self._models[model] = _Means()
        return means
