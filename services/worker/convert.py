"""Between the contract's messages and the worker's values; refuses wrong requests with the field named."""

import math

from google.rpc import code_pb2

from services.kit.errors import InvalidArgument, WeftError, rpc_code, seconds_to_duration
from services.kit.structure import check_structure, no_structure
from services.worker.ports import (
    About,
    CacheChange,
    Conversation,
    EngineLoad,
    Finish,
    Form,
    Logprob,
    Message,
    Prompt,
    Reason,
    Rendered,
    Role,
    Sampling,
    Structure,
    Tokenised,
)
from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2 as pb

STOP_STRINGS_LIMIT = 16
STOP_BYTES_LIMIT = 256
LOGPROBS_LIMIT = 20

_ROLES = {
    chat_pb2.ROLE_UNSPECIFIED: Role.USER,
    chat_pb2.ROLE_SYSTEM: Role.SYSTEM,
    chat_pb2.ROLE_USER: Role.USER,
    chat_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    chat_pb2.ROLE_TOOL: Role.TOOL,
}
_REASONS = {
    Reason.STOP: chat_pb2.FINISH_REASON_STOP,
    Reason.LENGTH: chat_pb2.FINISH_REASON_LENGTH,
    Reason.DEADLINE: chat_pb2.FINISH_REASON_DEADLINE,
    Reason.CANCELLED: chat_pb2.FINISH_REASON_CANCELLED,
}
# Lowest and highest value, and whether the lowest itself is allowed.
_RANGES = {
    "temperature": (0.0, 2.0, True),
    "top_p": (0.0, 1.0, False),
    "presence_penalty": (-2.0, 2.0, True),
    "frequency_penalty": (-2.0, 2.0, True),
    "repetition_penalty": (0.0, 2.0, False),
}


def to_prompt(wire: pb.Prompt) -> Prompt:
    """Raises InvalidArgument where it is empty or holds a turn that cannot be."""
    kind = wire.WhichOneof("kind")
    if kind == "conversation" and wire.conversation.messages:
        return Conversation(tuple(_to_message(at, m) for at, m in enumerate(wire.conversation.messages)))
    if kind == "text" and wire.text:
        return Rendered(wire.text)
    if kind == "token_ids" and wire.token_ids.ids:
        return Tokenised(tuple(wire.token_ids.ids))
    where = f"prompt.{kind}" if kind else "prompt"
    raise InvalidArgument("the prompt is empty: send a message, text or token ids", reason="EMPTY_PROMPT", field=where)


def _to_message(at: int, wire: chat_pb2.Message) -> Message:
    where = f"prompt.conversation.messages[{at}]"
    role = _ROLES.get(wire.role)
    if role is None:
        raise InvalidArgument(f"{wire.role} is no role", reason="UNKNOWN_ROLE", field=f"{where}.role")
    if not wire.content and role is not Role.ASSISTANT:
        message = f"message {at} is empty; only an assistant's turn may be"
        raise InvalidArgument(message, reason="EMPTY_MESSAGE", field=f"{where}.content")
    return Message(role, wire.content)


def to_sampling(wire: chat_pb2.Sampling) -> Sampling:
    """Raises InvalidArgument where a value is out of the contract's range."""
    for name, (low, high, closed) in _RANGES.items():
        if wire.HasField(name):
            value = getattr(wire, name)
            if not (math.isfinite(value) and low <= value <= high) or (value == low and not closed):
                bounds = f"{'[' if closed else '('}{low:g}, {high:g}]"
                raise _out_of_range(name, f"{name} is {value:g} and has to be in {bounds}")
    if wire.HasField("max_tokens") and wire.max_tokens < 1:
        raise _out_of_range("max_tokens", "max_tokens is 0 and has to be at least 1")
    if wire.HasField("logprobs") and wire.logprobs > LOGPROBS_LIMIT:
        raise _out_of_range("logprobs", f"logprobs is {wire.logprobs} and can be at most {LOGPROBS_LIMIT}")
    return Sampling(
        temperature=wire.temperature if wire.HasField("temperature") else None,
        top_p=wire.top_p if wire.HasField("top_p") else None,
        top_k=wire.top_k or None,
        seed=wire.seed if wire.HasField("seed") else None,
        stop=_to_stop(wire),
        max_tokens=wire.max_tokens if wire.HasField("max_tokens") else None,
        presence_penalty=wire.presence_penalty if wire.HasField("presence_penalty") else None,
        frequency_penalty=wire.frequency_penalty if wire.HasField("frequency_penalty") else None,
        repetition_penalty=wire.repetition_penalty if wire.HasField("repetition_penalty") else None,
        logprobs=wire.logprobs if wire.HasField("logprobs") else None,
        structure=_to_structure(wire.structure) if wire.HasField("structure") else None,
    )


def _to_structure(wire: chat_pb2.Structure) -> Structure:
    name = wire.WhichOneof("form")
    if name is None or (name == "json_object" and not wire.json_object):
        raise no_structure()
    form = Form(name)
    text = "" if form in (Form.JSON_OBJECT, Form.CHOICES) else str(getattr(wire, name))
    choices = tuple(wire.choices.values)
    check_structure(name, text, choices)
    return Structure(form, text, choices)


def _to_stop(wire: chat_pb2.Sampling) -> tuple[str, ...]:
    if len(wire.stop) > STOP_STRINGS_LIMIT:
        raise _out_of_range("stop", f"there are {len(wire.stop)} stop strings and can be at most {STOP_STRINGS_LIMIT}")
    for at, text in enumerate(wire.stop):
        if not 1 <= len(text.encode()) <= STOP_BYTES_LIMIT:
            raise _out_of_range(f"stop[{at}]", f"a stop string has 1 to {STOP_BYTES_LIMIT} bytes of UTF-8")
    return tuple(wire.stop)


def _out_of_range(name: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, reason="OUT_OF_RANGE", field=f"sampling.{name}")


def from_about(about: About, *, worker_id: str, incarnation: str, max_waiting: int) -> pb.Hello:
    """The first message's content."""
    return pb.Hello(
        worker_id=worker_id,
        incarnation=incarnation,
        model=about.model,
        engine=about.engine,
        limits=pb.Limits(
            max_running=about.max_running,
            max_waiting=max_waiting,
            context_tokens=about.context_tokens,
            longest_step=seconds_to_duration(about.longest_step_s) if about.longest_step_s else None,
        ),
        capabilities=pb.Capabilities(
            exact_resume=about.exact_resume,
            position_keyed_sampling=about.position_keyed_sampling,
            logprobs=about.logprobs,
            kv_events=about.kv_events,
            replays_penalties=about.replays_penalties,
            structured_output=about.structured_output,
            replays_structure=about.replays_structure,
            text_only=about.text_only,
        ),
        tokenizer_fingerprint=about.tokenizer_fingerprint,
        kv_block_size=about.kv_block_size,
        adapters=about.adapters,
    )


def from_cache(change: CacheChange) -> list[pb.KvEvent]:
    """One event for what was stored and one for what was removed; nothing is in both."""
    events = []
    if change.removed:
        events.append(pb.KvEvent(removed=pb.KvRemoved(prefix_hashes=change.removed)))
    if change.stored:
        events.append(pb.KvEvent(stored=pb.KvStored(prefix_hashes=change.stored)))
    return events


def from_cached(hashes: tuple[int, ...]) -> list[pb.KvEvent]:
    """The whole cache, for a router that may remember other things of this worker."""
    return [pb.KvEvent(cleared=pb.KvCleared()), *from_cache(CacheChange(hashes, ()))]


def from_load(load: EngineLoad, *, draining: bool) -> pb.Load:
    """A reading for routers."""
    return pb.Load(
        running=load.running,
        waiting=load.waiting,
        queued_tokens=load.queued_tokens,
        kv_usage=load.kv_usage,
        step_count=load.step_count,
        step_time=seconds_to_duration(load.step_time_s),
        draining=draining,
        broken=load.broken,
    )


def from_outcome(request: int, outcome: Finish | WeftError) -> pb.Ended:
    """How a request ended."""
    if isinstance(outcome, WeftError):
        code = rpc_code(outcome)
        # A request's failure on a link knows six codes; any other is the worker's own fault.
        if code not in _FAILURES:
            code = code_pb2.INTERNAL
        failure = pb.Failure(code=code, reason=outcome.reason, message=outcome.message, field=outcome.field)
        if outcome.retry_delay_s is not None:
            failure.retry_delay.CopyFrom(seconds_to_duration(outcome.retry_delay_s))
        return pb.Ended(request=request, failure=failure)
    usage = chat_pb2.Usage(
        prompt_tokens=outcome.prompt_tokens,
        cached_tokens=outcome.cached_tokens,
        completion_tokens=outcome.completion_tokens,
    )
    return pb.Ended(request=request, finish=pb.Finish(reason=_REASONS[outcome.reason], usage=usage))


_FAILURES = {
    code_pb2.INVALID_ARGUMENT,
    code_pb2.NOT_FOUND,
    code_pb2.RESOURCE_EXHAUSTED,
    code_pb2.DEADLINE_EXCEEDED,
    code_pb2.UNAVAILABLE,
    code_pb2.INTERNAL,
}


def from_logprob(logprob: Logprob) -> chat_pb2.TokenLogprob:
    """One token's log probability."""
    text = logprob.text
    if not text.isascii():
        # An engine's JSON may hold half of a character; the whole step would fail on it.
        text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return chat_pb2.TokenLogprob(
        token_id=logprob.token_id,
        text=text,
        logprob=logprob.logprob,
        alternatives=[from_logprob(other) for other in logprob.alternatives],
    )
