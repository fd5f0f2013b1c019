"""One answer under way: the tokens that vLLM brings become text, log probabilities and an end. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.worker.ports import Finish, Logprob, Reason, Tokens, Work
from services.worker.text import TextStage

Piece = Callable[[int], bytes]


@dataclass(slots=True)
class Answer:
    """`ends` are tokens that end an answer and are no part of it; `count` are its tokens so far, resumed ones too."""

    work: Work
    prompt_tokens: int
    piece: Piece
    spell: Callable[[int], str]
    ends: frozenset[int]
    stage: TextStage = field(init=False)
    count: int = 0
    cached_tokens: int = 0
    prefilled: bool = False

    def __post_init__(self) -> None:
        self.stage = TextStage(self.work.sampling.stop)
        for token in self.work.resume:
            self.stage.push(self.piece(token))
        self.count = len(self.work.resume)

    def take(self, ids: list[int], logprobs: Any, *, stopped: bool, over: bool) -> Tokens | None:
        """New tokens; `stopped` says that the model ended its answer, `over` that nothing comes after them."""
        if stopped and ids and ids[-1] in self.ends:
            ids = ids[:-1]
        stage, piece, first = self.stage, self.piece, self.count
        if len(ids) == 1:
            text = stage.push(piece(ids[0]))
        else:
            text, ids = self._push(ids)
        self.count = first + len(ids)
        if over:
            text += stage.finish()
        if not ids and not text:
            return None
        found = self._logprobs(ids, logprobs) if logprobs is not None else ()
        return Tokens(self.work.key, first, ids, text, found)

    def _push(self, ids: list[int]) -> tuple[str, list[int]]:
        """Several tokens at once; those after a stop string are no part of the answer."""
        text = ""
        for at, token in enumerate(ids):
            text += self.stage.push(self.piece(token))
            if self.stage.stopped:
                return text, ids[: at + 1]
        return text, ids

    def _logprobs(self, ids: list[int], lists: Any) -> tuple[Logprob, ...]:
        """vLLM gives for each token itself first, and then as many of the most probable as were asked for."""
        found = []
        for row in range(len(ids)):
            tokens, values = lists.logprob_token_ids[row].tolist(), lists.logprobs[row].tolist()
            count = self.work.sampling.logprobs or 0
            others = tuple(
                Logprob(token, self.spell(token), value)
                for token, value in zip(tokens[1 : 1 + count], values[1 : 1 + count], strict=True)
            )
            found.append(Logprob(tokens[0], self.spell(tokens[0]), values[0], others))
        return tuple(found)

    def finish(self, reason: Reason) -> Finish:
        """How it ended."""
        return Finish(reason, self.prompt_tokens, min(self.cached_tokens, self.prompt_tokens), self.count)
