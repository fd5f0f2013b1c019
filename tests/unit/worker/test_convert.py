"""What the wire may hold, and what is refused with the field named."""

import pytest

from services.kit.errors import Cancelled, Exhausted, InvalidArgument, Unavailable, WeftError, duration_to_seconds
from services.worker import convert
from services.worker.ports import (
    About,
    Conversation,
    Finish,
    Form,
    Message,
    Reason,
    Rendered,
    Role,
    Sampling,
    Structure,
    Tokenised,
)
from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2 as pb


def turns(*messages: chat_pb2.Message) -> pb.Prompt:
    return pb.Prompt(conversation=pb.Conversation(messages=messages))


@pytest.mark.parametrize(
    ("wire", "prompt"),
    [
        pytest.param(pb.Prompt(text="a"), Rendered("a"), id="text"),
        pytest.param(pb.Prompt(token_ids=pb.TokenIds(ids=[1, 0])), Tokenised((1, 0)), id="ids"),
        pytest.param(
            turns(chat_pb2.Message(content="hi"), chat_pb2.Message(role=chat_pb2.ROLE_ASSISTANT)),
            Conversation((Message(Role.USER, "hi"), Message(Role.ASSISTANT, ""))),
            id="no-role-is-a-user-and-an-assistant-may-be-silent",
        ),
    ],
)
def test_prompts(wire: pb.Prompt, prompt: object) -> None:
    assert convert.to_prompt(wire) == prompt


@pytest.mark.parametrize(
    ("wire", "field"),
    [
        pytest.param(pb.Prompt(), "prompt", id="nothing"),
        pytest.param(turns(), "prompt.conversation", id="no-turn"),
        pytest.param(pb.Prompt(token_ids=pb.TokenIds()), "prompt.token_ids", id="no-ids"),
        pytest.param(
            turns(chat_pb2.Message(content="a"), chat_pb2.Message(role=chat_pb2.ROLE_SYSTEM)),
            "prompt.conversation.messages[1].content",
            id="empty-turn",
        ),
        pytest.param(
            turns(chat_pb2.Message(role=99, content="a")),  # type: ignore[arg-type]  # no such role on purpose
            "prompt.conversation.messages[0].role",
            id="unknown-role",
        ),
    ],
)
def test_wrong_prompts(wire: pb.Prompt, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        convert.to_prompt(wire)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("wire", "field"),
    [
        pytest.param(chat_pb2.Sampling(temperature=-0.1), "temperature", id="cold"),
        pytest.param(chat_pb2.Sampling(temperature=float("nan")), "temperature", id="not-a-number"),
        pytest.param(chat_pb2.Sampling(top_p=0), "top_p", id="top-p-zero"),
        pytest.param(chat_pb2.Sampling(top_p=1.1), "top_p", id="top-p-over"),
        pytest.param(chat_pb2.Sampling(presence_penalty=2.5), "presence_penalty", id="presence"),
        pytest.param(chat_pb2.Sampling(frequency_penalty=-3), "frequency_penalty", id="frequency"),
        pytest.param(chat_pb2.Sampling(repetition_penalty=0), "repetition_penalty", id="repetition"),
        pytest.param(chat_pb2.Sampling(max_tokens=0), "max_tokens", id="no-token"),
        pytest.param(chat_pb2.Sampling(logprobs=21), "logprobs", id="too-many-logprobs"),
        pytest.param(chat_pb2.Sampling(stop=["a"] * 17), "stop", id="too-many-stops"),
        pytest.param(chat_pb2.Sampling(stop=["a", ""]), "stop[1]", id="empty-stop"),
        pytest.param(chat_pb2.Sampling(stop=["é" * 129]), "stop[0]", id="long-stop"),
    ],
)
def test_sampling_out_of_range(wire: chat_pb2.Sampling, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        convert.to_sampling(wire)
    assert caught.value.field == f"sampling.{field}"


@pytest.mark.parametrize(
    ("wire", "structure"),
    [
        pytest.param(chat_pb2.Structure(json_object=True), Structure(Form.JSON_OBJECT), id="json-object"),
        pytest.param(
            chat_pb2.Structure(json_schema='{"type": "string"}'),
            Structure(Form.JSON_SCHEMA, '{"type": "string"}'),
            id="json-schema",
        ),
        pytest.param(chat_pb2.Structure(regex="a+"), Structure(Form.REGEX, "a+"), id="regex"),
        pytest.param(
            chat_pb2.Structure(choices=chat_pb2.Choices(values=["a", "b"])),
            Structure(Form.CHOICES, choices=("a", "b")),
            id="choices",
        ),
        pytest.param(chat_pb2.Structure(grammar="root ::= a"), Structure(Form.GRAMMAR, "root ::= a"), id="grammar"),
    ],
)
def test_structures(wire: chat_pb2.Structure, structure: Structure) -> None:
    assert convert.to_sampling(chat_pb2.Sampling(structure=wire)).structure == structure


@pytest.mark.parametrize(
    ("wire", "field"),
    [
        pytest.param(chat_pb2.Structure(), "", id="nothing"),
        pytest.param(chat_pb2.Structure(json_object=False), "", id="no-object"),
        pytest.param(chat_pb2.Structure(json_schema="{"), ".json_schema", id="no-json"),
        pytest.param(chat_pb2.Structure(json_schema="[]"), ".json_schema", id="no-schema"),
        pytest.param(chat_pb2.Structure(json_schema="[" * 60_000), ".json_schema", id="deep"),
        pytest.param(chat_pb2.Structure(json_schema='{"a": "%s"}' % ("é" * 32768)), ".json_schema", id="long-schema"),
        pytest.param(chat_pb2.Structure(regex=""), ".regex", id="empty-regex"),
        pytest.param(chat_pb2.Structure(regex="a" * 8193), ".regex", id="long-regex"),
        pytest.param(chat_pb2.Structure(grammar="a" * 65537), ".grammar", id="long-grammar"),
        pytest.param(chat_pb2.Structure(choices=chat_pb2.Choices()), ".choices.values", id="no-choice"),
        pytest.param(
            chat_pb2.Structure(choices=chat_pb2.Choices(values=["a"] * 1025)), ".choices.values", id="many-choices"
        ),
        pytest.param(
            chat_pb2.Structure(choices=chat_pb2.Choices(values=["a", ""])), ".choices.values[1]", id="empty-choice"
        ),
    ],
)
def test_wrong_structures(wire: chat_pb2.Structure, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        convert.to_sampling(chat_pb2.Sampling(structure=wire))
    assert caught.value.field == f"sampling.structure{field}"


def test_what_is_not_set_stays_unset_and_zero_is_kept() -> None:
    assert convert.to_sampling(chat_pb2.Sampling()) == Sampling()
    given = convert.to_sampling(chat_pb2.Sampling(temperature=0, seed=0, top_k=0, logprobs=0, max_tokens=1))
    assert given == Sampling(temperature=0.0, seed=0, top_k=None, logprobs=0, max_tokens=1)


@pytest.mark.parametrize(
    ("outcome", "code", "delay_s"),
    [
        pytest.param(Exhausted("full"), 8, None, id="known-code"),
        pytest.param(Exhausted("full", retry_delay_s=1.5), 8, 1.5, id="delay"),
        pytest.param(Unavailable("away", retry_delay_s=0.0), 14, 0.0, id="at-once"),
        pytest.param(Cancelled("left"), 13, None, id="code-that-no-failure-has"),
    ],
)
def test_failures(outcome: WeftError, code: int, delay_s: float | None) -> None:
    failure = convert.from_outcome(3, outcome).failure
    assert (failure.code, failure.reason, failure.message) == (code, outcome.reason, outcome.message)
    assert (duration_to_seconds(failure.retry_delay) if failure.HasField("retry_delay") else None) == delay_s


def test_a_finish_carries_its_usage() -> None:
    ended = convert.from_outcome(3, Finish(Reason.STOP, 10, 4, 7))
    assert ended.request == 3
    assert ended.finish.reason == chat_pb2.FINISH_REASON_STOP
    usage = ended.finish.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (10, 4, 7)


def test_hello_says_what_the_engine_can_do() -> None:
    about = About("e", "m", 2, 100, "f", replays_penalties=True, kv_events=True, kv_block_size=16, longest_step_s=2.5)
    hello = convert.from_about(about, worker_id="w", incarnation="i", max_waiting=3)
    assert hello.limits.longest_step.ToMilliseconds() == 2500
    assert (hello.capabilities.replays_penalties, hello.capabilities.kv_events, hello.kv_block_size) == (True, True, 16)
    assert not hello.capabilities.exact_resume
    plain = convert.from_about(About("e", "m", 2, 100, "f"), worker_id="w", incarnation="i", max_waiting=3)
    assert not plain.limits.HasField("longest_step"), "not set: the router's own limit"
