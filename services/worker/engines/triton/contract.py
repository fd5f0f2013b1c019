"""What a model on Triton takes and gives, read from its configuration, and whether that is the vLLM backend's contract.

The contract: triton-inference-server/vllm_backend, its README and docs/additional_outputs.md.
"""

from dataclasses import dataclass
from typing import Any

from services.worker.engines.triton.failures import TritonError

# Parameters of a model's configuration that say how many tokens prompt and answer may have together.
_CONTEXT_KEYS = ("max_model_len", "context_tokens", "max_seq_len")
_NEEDED_INPUTS = ("text_input", "stream", "sampling_parameters")


@dataclass(frozen=True, slots=True)
class Contract:
    """One model. `batched` models have one more dimension in front of each tensor; `context_tokens` 0: not said."""

    model: str
    version: str
    inputs: frozenset[str]
    outputs: frozenset[str]
    batched: bool
    context_tokens: int

    @property
    def counts(self) -> bool:
        """Whether each response says how many tokens it brings."""
        return self._gives("num_output_tokens")

    @property
    def reasons(self) -> bool:
        """Whether the last response says why the answer ended."""
        return self._gives("finish_reason")

    @property
    def logprobs(self) -> bool:
        """Whether it can give log probabilities."""
        return self._gives("logprobs")

    @property
    def asked_flags(self) -> tuple[str, ...]:
        """Inputs that are to be true in each request, so far as the model has them."""
        wanted = ["stream", "exclude_input_in_output"]
        wanted += [f"return_{name}" for name in ("finish_reason", "num_input_tokens", "num_output_tokens")]
        return tuple(name for name in wanted if name in self.inputs)

    def _gives(self, name: str) -> bool:
        return name in self.outputs and f"return_{name}" in self.inputs


def read_contract(config: Any, version: str) -> Contract:
    """From Triton's ModelConfig. Raises TritonError where it is a model of another kind."""
    inputs, outputs = frozenset(item.name for item in config.input), frozenset(item.name for item in config.output)
    missing = [f"the input {name}" for name in _NEEDED_INPUTS if name not in inputs]
    if "text_output" not in outputs:
        missing.append("the output text_output")
    if missing:
        raise TritonError(
            f"Triton's model {config.name} lacks {', '.join(missing)}: worker.triton.model has to be a model of the "
            f"vLLM backend, or one with its inputs and outputs; this one takes {', '.join(sorted(inputs)) or 'nothing'}"
        )
    if not config.model_transaction_policy.decoupled:
        raise TritonError(
            f"Triton's model {config.name} is not decoupled, so it cannot stream: "
            "set model_transaction_policy { decoupled: True } in its config.pbtxt"
        )
    return Contract(config.name, version, inputs, outputs, config.max_batch_size > 0, _context_tokens(config))


def _context_tokens(config: Any) -> int:
    for key in _CONTEXT_KEYS:
        value = config.parameters[key].string_value if key in config.parameters else ""
        if value.isdecimal():
            return int(value)
    return 0
