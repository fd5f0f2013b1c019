"""Writes docs/settings.md from the settings tree; a test compares the two."""

import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from services.kit.settings import Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
HEAD = """# Settings

One typed tree, read from `weft.toml` in the current folder (or the file that `WEFT_CONFIG` names), then from
environment variables, then from flags; later ones win. A key that does not exist is an error that names the nearest one
that does. `router.port` is `port` under `[router]` in the file and `WEFT_ROUTER__PORT` in the environment; lists are
JSON there.

```toml
data_dir = "/var/lib/weft"

[router]
policy = "round_robin"
```

This page is made from the code: `python -m tests.settings_page`.
"""


def rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """One table row for each key below `model`; sections become tables of their own."""
    nested: list[tuple[str, type[BaseModel]]] = []
    lines: list[str] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            nested.append((f"{prefix}{name}", field.annotation))
        else:
            lines.append(f"| `{prefix}{name}` | {_default(field)} | {field.description or ''} |")
    if lines:
        yield from (
            f"\n## {prefix.rstrip('.') or 'Shared'}\n",
            "| key | default | what it is |",
            "|---|---|---|",
            *lines,
        )
    for name, section in nested:
        yield from rows(section, f"{name}.")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return f"`{value}`" if value not in ("", None) else "–"


def page() -> str:
    """The whole page."""
    return HEAD + "\n".join(rows(Settings)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.exit(0)
