"""What one request asks of the resumable sampler, as it travels to vLLM's process. Pure; it knows nothing of vLLM."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from services.worker.ports import Sampling

ASKS_KEY = "weft"
# vLLM takes a lower temperature for greedy.
GREEDY_BELOW = 1e-5


@dataclass(frozen=True, slots=True)
class Asks:
    """`seed` None leaves the choice to vLLM. `resumed` are the prompt's last tokens that belong to the answer."""

    seed: int | None
    temperature: float
    top_p: float
    top_k: int
    presence: float
    frequency: float
    repetition: float
    resumed: int

    @property
    def penalised(self) -> bool:
        return self.presence != 0.0 or self.frequency != 0.0 or self.repetition != 1.0

    def pack(self) -> list[float | int | None]:
        """Values that any serialisation knows."""
        return list(astuple(self))

    @staticmethod
    def unpack(values: "Sequence[float | int | None]") -> "Asks":
        """The inverse of `pack`."""
        return Asks(*values)  # type: ignore[arg-type]  # in the order of the fields


def asks_of(sampling: Sampling, temperature: float, top_p: float, repetition: float, resumed: int) -> Asks | None:
    """None where vLLM's own sampler does all that is asked for. The three values have the model's defaults in them."""
    seeded = sampling.seed is not None and temperature >= GREEDY_BELOW
    presence, frequency = sampling.presence_penalty or 0.0, sampling.frequency_penalty or 0.0
    if not (seeded or presence or frequency):
        return None
    return Asks(
        seed=sampling.seed if seeded else None,
        temperature=temperature,
        top_p=top_p,
        top_k=sampling.top_k or 0,
        presence=presence,
        frequency=frequency,
        repetition=repetition,
        resumed=resumed,
    )
