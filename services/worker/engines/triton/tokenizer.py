"""The model's tokenizer, read from a local folder: it counts tokens. It generates and detokenises nothing."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from services.worker.engines.triton.failures import TritonError

# A text beyond this takes so long that the event loop should not wait for it.
INLINE_CHARS = 8_192
# Composed characters and blanks become fewer.
_NORMALISING = 4
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True, slots=True)
class TokenizerFolder:
    """What a folder in the Hugging Face layout says. `template` is empty and `context_tokens` 0 where it does not."""

    tokenizer: Tokenizer
    longest_token: int
    special: dict[str, str]
    template: str
    context_tokens: int

    @property
    def adds_bos(self) -> bool:
        """Whether it begins every text with the bos token itself."""
        bos = self.special.get("bos_token")
        return bos is not None and self.tokenizer.encode("").tokens[:1] == [bos]

    @property
    def longest_chars(self) -> int:
        """The most characters that one token can stand for, with room for what normalising drops."""
        return self.longest_token * _NORMALISING

    async def count(self, text: str) -> int:
        """Tokens of a text, with those that the tokenizer itself puts around it."""
        if len(text) <= INLINE_CHARS:
            return len(self.tokenizer.encode(text).ids)
        return len((await asyncio.to_thread(self.tokenizer.encode, text)).ids)


def read_tokenizer(folder: Path) -> TokenizerFolder:
    """Raises TritonError where the folder has no tokenizer.json, or a file cannot be read."""
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TritonError(
            f"cannot read {path}: {error.strerror}; worker.triton.tokenizer has to be the model's tokenizer folder"
        ) from error
    except Exception as error:  # The library raises no narrower kind.
        raise TritonError(f"{path} is no tokenizer: {error}") from error
    # The file may ask for both; they would falsify every count.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    config = _read_json(folder / "tokenizer_config.json")
    return TokenizerFolder(
        tokenizer=tokenizer,
        longest_token=max(map(len, tokenizer.get_vocab()), default=1),
        special={name: _content(config[name]) for name in _SPECIAL if config.get(name)},
        template=_template(folder, config),
        context_tokens=int(_read_json(folder / "config.json").get("max_position_embeddings") or 0),
    )


def _read_json(path: Path) -> dict[str, Any]:
    """A file that may be missing."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise TritonError(f"cannot read {path}: {error}") from error
    return found


def _content(token: Any) -> str:
    """Special tokens are texts, or objects with their text as content."""
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _template(folder: Path, config: dict[str, Any]) -> str:
    """A file of its own goes before the configuration's; of several named ones the default is taken."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    found = config.get("chat_template") or ""
    if isinstance(found, list):
        found = next((item["template"] for item in found if item.get("name") == "default"), "")
    return str(found)
