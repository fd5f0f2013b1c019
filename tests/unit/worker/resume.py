"""The promise that every engine with exact resume makes, as one check: no gap, no repeat, the same text."""

import itertools

from services.worker.ports import Engine, Prompt, Sampling, Work
from tests.unit.worker.collector import Collector, Got

_keys = itertools.count(1)


async def run(engine: Engine, sink: Collector, prompt: Prompt, sampling: Sampling, resume: tuple[int, ...] = ()) -> Got:
    """One answer to its end."""
    key = next(_keys)
    sink.resumed[key] = len(resume)
    engine.submit(Work(key, prompt, sampling, resume))
    return (await sink.ended(key))[0]


async def check_every_split(engine: Engine, sink: Collector, prompt: Prompt, sampling: Sampling) -> Got:
    """Resumes after each number of tokens; the text sent before and the text sent after make the whole text."""
    whole = await run(engine, sink, prompt, sampling)
    shown = await _shown_after_each(engine, sink, prompt, sampling, whole)
    for count in range(1, len(whole.ids) + 1):
        rest = await run(engine, sink, prompt, sampling, tuple(whole.ids[:count]))
        assert whole.ids[:count] + rest.ids == whole.ids, f"after {count} tokens"
        # Between two tokens of one delta no client ever stands.
        if count in shown and count < len(whole.ids):
            assert shown[count] + rest.text == whole.text, f"after {count} tokens"
        assert rest.finish == whole.finish or rest.finish.cached_tokens != whole.finish.cached_tokens
        assert rest.finish.completion_tokens == whole.finish.completion_tokens
    return whole


async def _shown_after_each(
    engine: Engine, sink: Collector, prompt: Prompt, sampling: Sampling, whole: Got
) -> dict[int, str]:
    """The text that a client had when it had so many tokens, from the deltas of one uninterrupted answer."""
    again = next(_keys)
    first_step = len(sink.steps)
    engine.submit(Work(again, prompt, sampling))
    (got,) = await sink.ended(again)
    assert got.ids == whole.ids
    assert got.text == whole.text
    shown, text, count = {0: ""}, "", 0
    for step in sink.steps[first_step:]:
        for tokens in step.tokens:
            if tokens.key == again:
                text += tokens.text
                count += len(tokens.ids)
                shown[count] = text
    return shown
