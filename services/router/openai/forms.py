"""The forms of answers that OpenAI's and vLLM's clients ask for, read as the router's own `Structure`."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.kit.errors import InvalidArgument
from services.router.core.chat import Form, Structure


class JsonSchema(BaseModel):
    """OpenAI's wrapping of a schema; its name and the like change nothing."""

    model_config = ConfigDict(extra="ignore")

    json_schema: dict[str, Any] = Field(alias="schema")


class ResponseFormat(BaseModel):
    """OpenAI's `response_format`."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def structure(self) -> Structure | None:
        """The form as a value; None for text."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return Structure(Form.JSON_OBJECT)
        if self.json_schema is None:
            text = 'response_format.json_schema is missing; send {"schema": {...}} in it'
            raise InvalidArgument(text, field="response_format.json_schema")
        return _schema(self.json_schema.json_schema)


class StructuredOutputs(BaseModel):
    """vLLM's `structured_outputs`: one of these."""

    model_config = ConfigDict(extra="ignore")

    json_schema: dict[str, Any] | str | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool = False


class Formed(BaseModel):
    """The fields that say what form an answer has: OpenAI's, and those that vLLM's clients send in `extra_body`."""

    model_config = ConfigDict(extra="ignore")

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    def structure(self) -> Structure | None:
        """The form as a value; None where any will do. Raises InvalidArgument where there are several."""
        forms = self._forms()
        if len(forms) > 1:
            text = f"{' and '.join(forms)} each say what form the answer has; keep one of them"
            raise InvalidArgument(text, reason="SEVERAL_FORMS", field=list(forms)[1])
        return next(iter(forms.values()), None)

    @property
    def structure_field(self) -> str:
        """Which field says what form the answer has; `response_format` where none does."""
        return next(iter(self._forms()), "response_format")

    def _forms(self) -> dict[str, Structure]:
        found = _named("guided_", self.guided_json, self.guided_regex, self.guided_choice, self.guided_grammar)
        if (outputs := self.structured_outputs) is not None:
            prefix = "structured_outputs."
            found |= _named(prefix, outputs.json_schema, outputs.regex, outputs.choice, outputs.grammar)
            if outputs.json_object:
                found[f"{prefix}json_object"] = Structure(Form.JSON_OBJECT)
        if self.response_format is not None and (form := self.response_format.structure()) is not None:
            found["response_format"] = form
        return found


def _named(
    prefix: str, schema: dict[str, Any] | str | None, regex: str | None, choice: list[str] | None, grammar: str | None
) -> dict[str, Structure]:
    """Those of vLLM's forms that are set, by their fields' names."""
    found = {}
    if schema is not None:
        found[f"{prefix}json"] = _schema(schema)
    if regex is not None:
        found[f"{prefix}regex"] = Structure(Form.REGEX, regex)
    if choice is not None:
        found[f"{prefix}choice"] = Structure(Form.CHOICES, choices=tuple(choice))
    if grammar is not None:
        found[f"{prefix}grammar"] = Structure(Form.GRAMMAR, grammar)
    return found


def _schema(schema: dict[str, Any] | str) -> Structure:
    return Structure(Form.JSON_SCHEMA, schema if isinstance(schema, str) else json.dumps(schema))
