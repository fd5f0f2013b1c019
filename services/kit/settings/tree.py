"""The one settings tree: read from `weft.toml`, then WEFT_… variables, then what the caller overrides; later wins."""

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from services.kit.settings.embedder import EmbedderSettings
from services.kit.settings.envoy import EnvoySettings
from services.kit.settings.retriever import RetrieverSettings
from services.kit.settings.router import RouterSettings
from services.kit.settings.shared import GrpcSettings, TelemetrySettings
from services.kit.settings.worker import WorkerSettings

PREFIX = "WEFT_"
# Values that no message repeats, by their keys: secrets, and addresses, where a password may stand.
_SECRET = re.compile(r"(^|[._])(key|keys|token|tokens|password|secret|headers|url|endpoint)(\.|$)", re.IGNORECASE)
# Wherever else an address was put: what may stand before its host, and from its query on.
_BEFORE_HOST = re.compile(r".*@", re.DOTALL)
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_NOT_SETTINGS = {"WEFT_CONFIG", "WEFT_SUPERVISED"}


class SettingsError(Exception):
    """The settings are wrong; the text names each wrong key, where it stands and what it could have been."""


class Settings(BaseSettings):
    """Everything that can be set, with its default."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Field(default=Path(".weft"), description="Where indexes, logs and caches are kept.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What is logged.")
    envoy: EnvoySettings = EnvoySettings()
    router: RouterSettings = RouterSettings()
    worker: WorkerSettings = WorkerSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    retriever: RetrieverSettings = RetrieverSettings()
    grpc: GrpcSettings = GrpcSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config_path())


def config_path() -> Path:
    """The settings file: WEFT_CONFIG, or `weft.toml` in the current folder."""
    return Path(os.environ.get("WEFT_CONFIG", "weft.toml"))


def known_keys(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """Every key of the tree, dotted, sections included."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from known_keys(field.annotation, f"{prefix}{name}.")


def _nearest(key: str) -> str:
    known = list(known_keys())
    found = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    if not found:
        last = {name.rsplit(".", 1)[-1]: name for name in known}
        found = [last[n] for n in difflib.get_close_matches(key.rsplit(".", 1)[-1], last, n=1)]
    return f"; did you mean `{found[0]}`?" if found else ""


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    known = {PREFIX + key.replace(".", "__").upper() for key in known_keys()}
    wrong = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in _NOT_SETTINGS and name not in known:
            key = name.removeprefix(PREFIX).lower().replace("__", ".")
            wrong.append(f"{name}: no such setting{_nearest(key)}")
    return wrong


def load_settings(**overrides: Any) -> Settings:
    """Reads the tree. `overrides` are nested mappings such as `router={"port": 0}`. Raises SettingsError."""
    file = config_path()
    if "WEFT_CONFIG" in os.environ and not file.is_file():
        raise SettingsError(f"{file}: there is no such settings file (WEFT_CONFIG names it)")
    if wrong := _unknown_variables(os.environ):
        raise SettingsError("\n".join(wrong))
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("\n".join(_sentence(item) for item in error.errors(include_url=False))) from error
    except ValueError as error:
        raise SettingsError(f"{file}: cannot be read as TOML: {error}") from error


def _sentence(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{key}: no such setting{_nearest(key)}"
    if isinstance(item["input"], dict):
        # What is wrong with a whole section says so itself; the section may hold secrets.
        return f"{key}: {item['msg']}"
    if _SECRET.search(key):
        return f"{key}: {item['msg']}"
    shown = _QUERY.sub("…", _BEFORE_HOST.sub("…@", repr(item["input"])))
    return f"{key}: {item['msg']}, and not {shown}"


def to_environment(settings: Settings) -> dict[str, str]:
    """WEFT_… variables from which `load_settings` reads the same tree, for child processes."""
    found: dict[str, str] = {}

    def walk(model: BaseModel, prefix: str) -> None:
        for name in type(model).model_fields:
            value = getattr(model, name)
            if isinstance(value, BaseModel):
                walk(value, f"{prefix}{name.upper()}__")
            elif isinstance(value, SecretStr):
                found[f"{prefix}{name.upper()}"] = value.get_secret_value()
            elif value is not None:
                found[f"{prefix}{name.upper()}"] = (
                    json.dumps(value, default=_plain) if isinstance(value, list | dict) else str(value)
                )

    walk(settings, PREFIX)
    return found


def _plain(value: object) -> object:
    """What JSON has no form for, within a list or a mapping of the tree."""
    if isinstance(value, BaseModel):
        return {name: field for name in type(value).model_fields if (field := getattr(value, name)) is not None}
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
