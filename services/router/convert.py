"""Between the wire and the router's own values, both ways; wrong requests are refused here, with the field named."""

from collections.abc import Sequence

from google.rpc import code_pb2

from services.kit.errors import InvalidArgument, Unavailable, duration_to_seconds, seconds_to_duration
from services.kit.settings.router import RouterSettings
from services.kit.structure import check_structure, no_structure
from services.router.core.chat import (
    Chat,
    Condition,
    FinishReason,
    Form,
    Message,
    Priority,
    Rerank,
    Retrieval,
    Role,
    Sampling,
    SearchMode,
    Structure,
    Usage,
)
from services.router.core.recover import Ended, Failure, FailureKind, Outcome
from services.router.core.worker import CacheChange, Hello, Load
from weft.chat.v1 import chat_pb2
from weft.retriever.v1 import retriever_pb2
from weft.router.v1 import router_pb2
from weft.worker.v1 import worker_pb2

MAX_NAME_BYTES = 128
MAX_STOPS = 16
MAX_STOP_BYTES = 256
MAX_RETRIEVED = 20
DEFAULT_RETRIEVED = 5
MAX_ADAPTERS = 1024
"""Adapters of one worker: each is a name in the table, with a queue of its own."""
_REASONED = {"DRAINING": FailureKind.DRAINED, "ENGINE_BROKEN": FailureKind.BROKEN}
"""Reasons with which a worker refuses or ends a request since it leaves or its engine broke."""

_ROLES = {
    chat_pb2.ROLE_UNSPECIFIED: Role.USER,
    chat_pb2.ROLE_SYSTEM: Role.SYSTEM,
    chat_pb2.ROLE_USER: Role.USER,
    chat_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    chat_pb2.ROLE_TOOL: Role.TOOL,
}
_WIRE_ROLES = {role: number for number, role in _ROLES.items() if number}
_PRIORITIES = {
    router_pb2.PRIORITY_BATCH: Priority.BATCH,
    router_pb2.PRIORITY_NORMAL: Priority.NORMAL,
    router_pb2.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
}
_MODES = {
    retriever_pb2.SEARCH_MODE_UNSPECIFIED: SearchMode.HYBRID,
    retriever_pb2.SEARCH_MODE_HYBRID: SearchMode.HYBRID,
    retriever_pb2.SEARCH_MODE_DENSE: SearchMode.DENSE,
    retriever_pb2.SEARCH_MODE_BM25: SearchMode.BM25,
}
_RERANKS = {
    retriever_pb2.RERANK_UNSPECIFIED: Rerank.AS_INDEXED,
    retriever_pb2.RERANK_NONE: Rerank.NONE,
    retriever_pb2.RERANK_MMR: Rerank.MMR,
    retriever_pb2.RERANK_CROSS_ENCODER: Rerank.CROSS_ENCODER,
}
_WIRE_RERANKS = {rerank: number for number, rerank in _RERANKS.items()}
_WIRE_MODES = {mode: number for number, mode in _MODES.items() if number}
_REASONS = {
    chat_pb2.FINISH_REASON_UNSPECIFIED: FinishReason.STOP,
    chat_pb2.FINISH_REASON_STOP: FinishReason.STOP,
    chat_pb2.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    chat_pb2.FINISH_REASON_DEADLINE: FinishReason.DEADLINE,
    chat_pb2.FINISH_REASON_CANCELLED: FinishReason.CANCELLED,
    chat_pb2.FINISH_REASON_NOTHING_FOUND: FinishReason.NOTHING_FOUND,
}
WIRE_REASONS = {reason: number for number, reason in _REASONS.items() if number}
_FAILURES = {
    code_pb2.INVALID_ARGUMENT: FailureKind.WRONG_REQUEST,
    code_pb2.NOT_FOUND: FailureKind.UNKNOWN_MODEL,
    code_pb2.RESOURCE_EXHAUSTED: FailureKind.FULL,
    code_pb2.DEADLINE_EXCEEDED: FailureKind.DEADLINE,
    code_pb2.UNAVAILABLE: FailureKind.UNAVAILABLE,
}
# Inclusive bounds of each sampling field; chat.proto says what they mean.
_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (1e-6, 1.0),
    "top_k": (0, 2**31),
    "max_tokens": (1, 2**31),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repetition_penalty": (1e-6, 2.0),
    "logprobs": (0, 20),
}


def chat_from(request: router_pb2.StreamChatRequest) -> Chat:
    """The request as a value, unchecked beyond what its enums mean; `check_chat` does the rest."""
    retrieval = _retrieval_from(request.retrieval) if request.HasField("retrieval") else None
    return Chat(
        model=request.model,
        messages=tuple(Message(_ROLES.get(m.role, Role.USER), m.content) for m in request.messages),
        sampling=_sampling_from(request.sampling),
        tenant=request.tenant,
        session_id=request.session_id,
        retrieval=retrieval,
        timeout_s=duration_to_seconds(request.timeout) if request.HasField("timeout") else None,
        priority=_PRIORITIES.get(request.priority, Priority.NORMAL),
    )


def _retrieval_from(wire: router_pb2.Retrieval) -> Retrieval:
    return Retrieval(
        index=wire.index,
        top_k=wire.top_k or DEFAULT_RETRIEVED,
        document_ids=tuple(wire.filter.document_ids),
        conditions=tuple(Condition(c.key, tuple(c.values)) for c in wire.filter.conditions),
        mode=_MODES.get(wire.mode, SearchMode.HYBRID),
        min_score=wire.min_score if wire.HasField("min_score") else None,
        rerank=_RERANKS.get(wire.rerank, Rerank.AS_INDEXED),
        max_source_tokens=wire.max_source_tokens,
        answer_without_sources=wire.answer_without_sources,
    )


def _sampling_from(wire: chat_pb2.Sampling) -> Sampling:
    def optional(name: str) -> float | None:
        return getattr(wire, name) if wire.HasField(name) else None

    return Sampling(
        temperature=optional("temperature"),
        top_p=optional("top_p"),
        top_k=wire.top_k if wire.HasField("top_k") else None,
        seed=wire.seed if wire.HasField("seed") else None,
        stop=tuple(wire.stop),
        max_tokens=wire.max_tokens if wire.HasField("max_tokens") else None,
        presence_penalty=optional("presence_penalty"),
        frequency_penalty=optional("frequency_penalty"),
        repetition_penalty=optional("repetition_penalty"),
        logprobs=wire.logprobs if wire.HasField("logprobs") else None,
        structure=_structure_from(wire.structure) if wire.HasField("structure") else None,
    )


def _structure_from(wire: chat_pb2.Structure) -> Structure:
    """Raises InvalidArgument where it has no form, which is the one thing that no value can stand for."""
    name = wire.WhichOneof("form")
    if name is None or (name == "json_object" and not wire.json_object):
        raise no_structure()
    form = Form(name)
    text = "" if form in (Form.JSON_OBJECT, Form.CHOICES) else str(getattr(wire, name))
    return Structure(form, text, tuple(wire.choices.values))


def check_chat(chat: Chat, settings: RouterSettings) -> None:
    """Raises InvalidArgument, which names the field, for anything that no worker could answer."""
    if chat.raw_prompt is None:
        _check_messages(chat.messages, settings)
    elif not chat.raw_prompt:
        raise InvalidArgument("the prompt is empty; send some text", field="prompt")
    else:
        _check_size(len(chat.raw_prompt.encode()), "prompt", settings)
    _check_sampling(chat.sampling)
    for field, value in (("tenant", chat.tenant), ("session_id", chat.session_id), ("model", chat.model)):
        if len(value.encode()) > 2 * MAX_NAME_BYTES:
            raise InvalidArgument(f"{field} is longer than {2 * MAX_NAME_BYTES} bytes", field=field)
    if chat.retrieval and not 1 <= chat.retrieval.top_k <= MAX_RETRIEVED:
        text = f"retrieval.top_k is {chat.retrieval.top_k}; it has to be 1 to {MAX_RETRIEVED}"
        raise InvalidArgument(text, field="retrieval.top_k")
    if chat.timeout_s is not None and chat.timeout_s <= 0:
        raise InvalidArgument(f"timeout is {chat.timeout_s:g} s; it has to be more than 0", field="timeout")


def _check_messages(messages: Sequence[Message], settings: RouterSettings) -> None:
    if not messages:
        raise InvalidArgument("there is no message; send at least one, such as the question", field="messages")
    if len(messages) > settings.max_messages:
        text = f"{len(messages)} messages are more than the {settings.max_messages} that one request may have"
        raise InvalidArgument(text, field="messages")
    for position, message in enumerate(messages):
        if not message.content.strip() and message.role is not Role.ASSISTANT:
            field = f"messages[{position}].content"
            raise InvalidArgument(f"{field} is empty; write the question or leave the message out", field=field)
    if messages[-1].role not in (Role.USER, Role.TOOL):
        field = f"messages[{len(messages) - 1}].role"
        text = f"the last message is the {messages[-1].role.value}'s; it has to be the user's or a tool's"
        raise InvalidArgument(text, field=field)
    _check_size(sum(len(m.content.encode()) for m in messages), "messages", settings)


def _check_size(size_bytes: int, field: str, settings: RouterSettings) -> None:
    if size_bytes > settings.max_prompt_bytes:
        text = f"the prompt has {size_bytes:,} bytes, and {settings.max_prompt_bytes:,} are allowed; shorten it"
        raise InvalidArgument(text, reason="PROMPT_TOO_LONG", field=field)


def _check_sampling(sampling: Sampling) -> None:
    for name, (low, high) in _RANGES.items():
        value = getattr(sampling, name)
        if value is not None and not low <= value <= high:
            most = f"{high:,.10g}"
            bounds = f"over 0 and at most {most}" if low == 1e-6 else f"{low:g} to {most}"
            raise InvalidArgument(f"sampling.{name} is {value:g}; it has to be {bounds}", field=f"sampling.{name}")
    if len(sampling.stop) > MAX_STOPS:
        raise InvalidArgument(f"{len(sampling.stop)} stop strings; at most {MAX_STOPS}", field="sampling.stop")
    for position, stop in enumerate(sampling.stop):
        if not 0 < len(stop.encode()) <= MAX_STOP_BYTES:
            field = f"sampling.stop[{position}]"
            raise InvalidArgument(f"{field} has to have 1 to {MAX_STOP_BYTES} bytes", field=field)
    if (structure := sampling.structure) is not None:
        check_structure(structure.form.value, structure.text, structure.choices)


def start_message(
    chat: Chat, request_id: str, resume_ids: Sequence[int], resume_text: str, left_s: float
) -> worker_pb2.Start:
    """What the worker is asked to do; the link fills in its number."""
    if chat.raw_prompt is not None:
        prompt = worker_pb2.Prompt(text=chat.raw_prompt)
    else:
        messages = [chat_pb2.Message(role=_WIRE_ROLES[m.role], content=m.content) for m in chat.messages]
        prompt = worker_pb2.Prompt(conversation=worker_pb2.Conversation(messages=messages))
    s = chat.sampling
    return worker_pb2.Start(
        request_id=request_id,
        model=chat.model,
        prompt=prompt,
        sampling=chat_pb2.Sampling(
            temperature=s.temperature,
            top_p=s.top_p,
            top_k=s.top_k,
            seed=s.seed,
            stop=s.stop,
            max_tokens=s.max_tokens,
            presence_penalty=s.presence_penalty,
            frequency_penalty=s.frequency_penalty,
            repetition_penalty=s.repetition_penalty,
            logprobs=s.logprobs,
            structure=_structure_message(s.structure) if s.structure else None,
        ),
        resume_token_ids=resume_ids,
        resume_text=resume_text,
        timeout=seconds_to_duration(left_s),
    )


def _structure_message(structure: Structure) -> chat_pb2.Structure:
    match structure.form:
        case Form.JSON_SCHEMA:
            return chat_pb2.Structure(json_schema=structure.text)
        case Form.JSON_OBJECT:
            return chat_pb2.Structure(json_object=True)
        case Form.REGEX:
            return chat_pb2.Structure(regex=structure.text)
        case Form.CHOICES:
            return chat_pb2.Structure(choices=chat_pb2.Choices(values=structure.choices))
        case Form.GRAMMAR:
            return chat_pb2.Structure(grammar=structure.text)


def search_message(query: str, retrieval: Retrieval) -> retriever_pb2.SearchRequest:
    """What the retriever is asked to find."""
    conditions = [retriever_pb2.Condition(key=c.key, values=c.values) for c in retrieval.conditions]
    return retriever_pb2.SearchRequest(
        index=retrieval.index,
        query=query,
        top_k=retrieval.top_k,
        mode=_WIRE_MODES[retrieval.mode],
        min_score=retrieval.min_score,
        rerank=_WIRE_RERANKS[retrieval.rerank],
        filter=retriever_pb2.Filter(document_ids=retrieval.document_ids, conditions=conditions),
    )


def hello_from(wire: worker_pb2.Hello) -> Hello:
    """A worker's hello. Raises Unavailable where it has more adapters than the router keeps account of."""
    if len(wire.adapters) > MAX_ADAPTERS:
        text = f"{wire.worker_id} serves {len(wire.adapters):,} adapters, and {MAX_ADAPTERS:,} are allowed"
        raise Unavailable(text, reason="TOO_MANY_ADAPTERS")
    return Hello(
        worker_id=wire.worker_id,
        incarnation=wire.incarnation,
        model=wire.model,
        engine=wire.engine,
        max_running=wire.limits.max_running,
        max_waiting=wire.limits.max_waiting,
        context_tokens=wire.limits.context_tokens,
        tokenizer_fingerprint=wire.tokenizer_fingerprint,
        exact_resume=wire.capabilities.exact_resume,
        position_keyed_sampling=wire.capabilities.position_keyed_sampling,
        logprobs=wire.capabilities.logprobs,
        kv_events=wire.capabilities.kv_events,
        replays_penalties=wire.capabilities.replays_penalties,
        longest_step_s=duration_to_seconds(wire.limits.longest_step),
        structured_output=wire.capabilities.structured_output,
        replays_structure=wire.capabilities.replays_structure,
        text_only=wire.capabilities.text_only,
        adapters=tuple(wire.adapters),
    )


def cache_change_from(wire: worker_pb2.KvEvent) -> CacheChange:
    """A change of a worker's prefix cache."""
    return CacheChange(
        stored=tuple(wire.stored.prefix_hashes),
        removed=tuple(wire.removed.prefix_hashes),
        cleared=wire.HasField("cleared"),
    )


def load_from(wire: worker_pb2.Load) -> Load:
    """A worker's reading of itself."""
    return Load(
        running=wire.running,
        waiting=wire.waiting,
        queued_tokens=wire.queued_tokens,
        kv_usage=wire.kv_usage,
        step_count=wire.step_count,
        step_time_s=duration_to_seconds(wire.step_time),
        draining=wire.draining,
        broken=wire.broken,
    )


def usage_from(wire: chat_pb2.Usage) -> Usage:
    """A worker's count."""
    return Usage(wire.prompt_tokens, wire.cached_tokens, wire.completion_tokens)


def outcome_from(wire: worker_pb2.Ended) -> Outcome:
    """How a worker says that an answer ended. A deadline that the worker noticed first is the same failure as ours."""
    if wire.HasField("failure"):
        failure = wire.failure
        kind = _FAILURES.get(failure.code, FailureKind.INTERNAL)
        if kind is FailureKind.UNAVAILABLE:
            # A worker that leaves, or whose engine is being started anew, says nothing about the request.
            kind = _REASONED.get(failure.reason, kind)
        delay_s = duration_to_seconds(failure.retry_delay) if failure.HasField("retry_delay") else None
        return Failure(kind, failure.message, failure.reason, failure.field, delay_s)
    reason = _REASONS.get(wire.finish.reason, FinishReason.STOP)
    if reason is FinishReason.DEADLINE:
        return Failure(FailureKind.DEADLINE, "the deadline passed before the answer was complete", "DEADLINE")
    return Ended(reason, usage_from(wire.finish.usage))
