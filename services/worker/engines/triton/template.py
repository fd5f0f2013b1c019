"""A model's chat template, rendered as Hugging Face's tokenizers render it: sandboxed Jinja with a few helpers."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.kit.errors import InvalidArgument
from services.worker.engines.triton.failures import TritonError
from services.worker.ports import Conversation


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Jinja's own filter would escape for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


class ChatTemplate:
    """`special` are the tokenizer's special tokens by name, such as bos_token; `today` is asked for the date."""

    def __init__(self, source: str, special: dict[str, str], *, where: str, today: Callable[[], datetime]) -> None:
        """Raises TritonError, which names `where`, for a source that is no template."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], autoescape=False
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: today().strftime(form)
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise TritonError(f"the chat template of {where} is none: {error}") from error
        self._special = special

    def render(self, conversation: Conversation) -> str:
        """The prompt up to where the answer begins. Raises InvalidArgument for turns that the template refuses."""
        messages = [{"role": turn.role.value, "content": turn.content} for turn in conversation.messages]
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._special)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            message = f"the model's chat template does not take this conversation: {error}"
            raise InvalidArgument(message, reason="TEMPLATE_REFUSED", field="prompt.conversation") from error
