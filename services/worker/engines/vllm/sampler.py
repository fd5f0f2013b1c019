"""vLLM's logits processor that makes an answer the same wherever it is resumed: it runs in vLLM's own process.

Noise is keyed by seed, place in the answer and token, so it does not depend on how many numbers were drawn before.
Presence and frequency penalties count resumed tokens, which vLLM takes for a part of the prompt. Rows that ask for
neither are left to vLLM.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from services.worker.engines.vllm.asks import ASKS_KEY, Asks

_MASK = 0xFFFFFFFF


@dataclass(slots=True)
class Tally:
    """How often each token stands in an answer; those of the prompt count 0 and are there for `repetition` alone."""

    ids: list[int] = field(default_factory=list)
    counts: list[float] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)

    def add(self, token: int, count: float) -> None:
        place = self.places.get(token)
        if place is None:
            place = self.places[token] = len(self.ids)
            self.ids.append(token)
            self.counts.append(0.0)
        self.counts[place] += count


class Row:
    """One request of the batch. `output` is vLLM's own list, which grows with each step."""

    def __init__(self, asks: Asks, prompt: list[int], output: list[int]) -> None:
        self.asks = asks
        self.output = output
        self._prompt = prompt
        self._counted = 0
        self._tally = self._fresh()

    def _fresh(self) -> Tally:
        tally = Tally()
        split = len(self._prompt) - self.asks.resumed
        if self.asks.repetition != 1.0:
            for token in self._prompt[:split]:
                tally.add(token, 0.0)
        for token in self._prompt[split:]:
            tally.add(token, 1.0)
        return tally

    @property
    def position(self) -> int:
        """The place in the answer of the token that is chosen next."""
        return self.asks.resumed + len(self.output)

    def tally(self) -> Tally:
        if len(self.output) < self._counted:
            self._counted, self._tally = 0, self._fresh()
        for token in self.output[self._counted :]:
            self._tally.add(token, 1.0)
        self._counted = len(self.output)
        return self._tally


def keys_of(seed: int, position: int) -> tuple[int, int]:
    """Two numbers of 32 bits that are the noise's own for this seed and place."""
    data = (seed & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little") + position.to_bytes(8, "little")
    digest = hashlib.blake2b(data, digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def gumbel(keys: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Gumbel noise for each token, `keys` being [rows, 2] and `tokens` [rows, n] or [1, n]; float32 [rows, n].

    The mixing is that of Chris Wellons' lowbias32 (https://nullprogram.com/blog/2018/07/31/), done twice.
    """
    mixed = _mix(_mix(tokens ^ keys[:, :1]) + keys[:, 1:] & _MASK)
    uniform = (mixed.to(torch.float32) + 0.5) * (1.0 / (1 << 32))
    # The smallest values win, and there float32 is finest; 1.0 would be no number.
    return -torch.log(-torch.log1p(-uniform.clamp_max_(1.0 - 2.0**-24)))


def _mix(x: torch.Tensor) -> torch.Tensor:
    x = (x ^ (x >> 16)) * 0x7FEB352D & _MASK
    x = (x ^ (x >> 15)) * 0x846CA68B & _MASK
    return x ^ (x >> 16)


def choose(
    logits: torch.Tensor,
    keys: torch.Tensor,
    temperature: torch.Tensor,
    top_p: torch.Tensor | None,
    top_k: torch.Tensor | None,
    keep: int,
) -> torch.Tensor:
    """The token that each row takes. `keep` is the highest top_k where every row has one, and else the vocabulary.

    Without top_p and top_k nothing is sorted. Only tokens that are kept get noise.
    """
    scaled = logits / temperature[:, None]
    if top_p is None and top_k is None:
        tokens = torch.arange(logits.shape[1], device=logits.device)[None, :]
        return (scaled + gumbel(keys, tokens)).argmax(dim=-1)
    values, tokens = torch.topk(scaled, keep, dim=-1)
    if top_k is not None:
        place = torch.arange(keep, device=logits.device)[None, :]
        values = values.masked_fill(place >= top_k[:, None], float("-inf"))
    if top_p is not None:
        share = values.softmax(dim=-1)
        before = share.cumsum(dim=-1) - share
        before[:, 0] = 0.0
        values = values.masked_fill(before >= top_p[:, None], float("-inf"))
    best = (values + gumbel(keys, tokens)).argmax(dim=-1, keepdim=True)
    return tokens.gather(1, best).squeeze(1)


class ResumableSampler(LogitsProcessor):  # type: ignore[misc]  # vLLM has no types where it is not installed
    """See the module. vLLM takes the highest logit of rows whose token was chosen here."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, Row] = {}
        self._device = device
        self._batch: _Batch | None = None
        self._penalised: list[tuple[int, Row]] = []

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if process_dict_updates(self._rows, batch_update, _to_row):
            self._penalised = [(at, row) for at, row in self._rows.items() if row.asks.penalised]
            seeded = [(at, row) for at, row in self._rows.items() if row.asks.seed is not None]
            self._batch = _Batch(seeded, self._device) if seeded else None

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        if self._penalised:
            self._penalise(logits)
        if self._batch is not None:
            self._batch.apply(logits)
        return logits

    def _penalise(self, logits: torch.Tensor) -> None:
        """In vLLM's own order: repetition, then frequency, then presence."""
        tallies = [(at, row.asks, row.tally()) for at, row in self._penalised]
        sizes = [len(tally.ids) for _, _, tally in tallies]
        if not sum(sizes):
            return
        values = np.repeat(
            np.array([[at, a.repetition, a.frequency, a.presence] for at, a, _ in tallies], np.float32), sizes, axis=0
        )
        counts = np.concatenate([np.array(tally.counts, np.float32) for _, _, tally in tallies])
        ids = np.concatenate([np.array(tally.ids, np.int64) for _, _, tally in tallies])
        ratio, frequency, presence, count = (
            torch.from_numpy(part.copy()).to(logits.device) for part in (*values.T[1:], counts)
        )
        rows = torch.from_numpy(values[:, 0].astype(np.int64)).to(logits.device)
        tokens = torch.from_numpy(ids).to(logits.device)
        old = logits[rows, tokens]
        new = torch.where(old > 0, old / ratio, old * ratio)
        logits[rows, tokens] = new - frequency * count - presence * (count > 0)


class _Batch:
    """The seeded rows as tensors, made anew only when the batch changes."""

    def __init__(self, seeded: list[tuple[int, Row]], device: torch.device) -> None:
        asks = [row.asks for _, row in seeded]
        self._rows = [row for _, row in seeded]
        self._index = torch.tensor([at for at, _ in seeded], dtype=torch.int64, device=device)
        self._temperature = torch.tensor([a.temperature for a in asks], dtype=torch.float32, device=device)
        self._top_p = self._top_k = None
        if any(a.top_p < 1.0 for a in asks):
            self._top_p = torch.tensor([a.top_p for a in asks], dtype=torch.float32, device=device)
        self._limit = max(a.top_k for a in asks) if all(a.top_k for a in asks) else 0
        if any(a.top_k for a in asks):
            self._top_k = torch.tensor([a.top_k or 1 << 40 for a in asks], dtype=torch.int64, device=device)

    def apply(self, logits: torch.Tensor) -> None:
        keys = [keys_of(row.asks.seed or 0, row.position) for row in self._rows]
        keep = min(self._limit or logits.shape[1], logits.shape[1])
        chosen = choose(
            logits[self._index],
            torch.tensor(keys, dtype=torch.int64).to(logits.device),
            self._temperature,
            self._top_p,
            self._top_k,
            keep,
        )
        logits[self._index] = float("-inf")
        logits[self._index, chosen] = 0.0


def _to_row(params: Any, prompt: list[int] | None, output: list[int]) -> Row | None:
    packed = (params.extra_args or {}).get(ASKS_KEY)
    return Row(Asks.unpack(packed), prompt or [], output) if packed is not None else None
