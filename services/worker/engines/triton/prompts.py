"""Prompts as the text that Triton takes: chat template and count where the settings give the means for it."""

from datetime import datetime
from pathlib import Path

from services.kit.errors import InvalidArgument
from services.kit.settings.engines.triton import TritonSettings
from services.worker.engines.triton.failures import TritonError
from services.worker.engines.triton.template import ChatTemplate
from services.worker.engines.triton.tokenizer import TokenizerFolder, read_tokenizer
from services.worker.ports import Conversation, Prompt, Tokenised

# Vocabularies have a few tokens of so many characters, most of them blanks, and none has longer ones.
LONGEST_TOKEN_CHARS = 256


class Prompts:
    """Without a template conversations are refused; without a tokenizer nothing is counted."""

    def __init__(self, template: ChatTemplate | None, tokenizer: TokenizerFolder | None) -> None:
        self._template = template
        self._tokenizer = tokenizer
        # The tokenizer puts it there once more.
        self._doubled = tokenizer.special["bos_token"] if tokenizer is not None and tokenizer.adds_bos else ""

    @property
    def context_tokens(self) -> int:
        """What the tokenizer's folder says of the model; 0: nothing."""
        return self._tokenizer.context_tokens if self._tokenizer is not None else 0

    def text(self, prompt: Prompt) -> str:
        """Raises InvalidArgument for token ids, and for a conversation where there is no template or it refuses."""
        if isinstance(prompt, Tokenised):
            message = "Triton's vLLM backend takes no token ids; send messages or text"
            raise InvalidArgument(message, reason="UNSUPPORTED", field="prompt.token_ids")
        if not isinstance(prompt, Conversation):
            return prompt.text
        if self._template is None:
            message = (
                "Triton takes text, and this worker has no chat template to make it from a conversation: set "
                "worker.triton.tokenizer to the model's tokenizer folder, or worker.triton.chat_template to a Jinja "
                "file, or send the prompt as text"
            )
            raise InvalidArgument(message, reason="NO_CHAT_TEMPLATE", field="prompt.conversation")
        return self._template.render(prompt).removeprefix(self._doubled)

    async def count(self, text: str, context_tokens: int) -> int | None:
        """Tokens of a text; None where there is no tokenizer to count them. Raises InvalidArgument, PROMPT_TOO_LONG.

        A text that cannot fit whatever its tokens is not looked at: that would take seconds.
        """
        longest = self._tokenizer.longest_chars if self._tokenizer is not None else LONGEST_TOKEN_CHARS
        if len(text) > context_tokens * longest:
            message = f"the prompt has {len(text):,} characters, and the context is {context_tokens:,} tokens"
            raise InvalidArgument(message, reason="PROMPT_TOO_LONG", field="prompt")
        return await self._tokenizer.count(text) if self._tokenizer is not None else None


def read_prompts(settings: TritonSettings) -> Prompts:
    """Reads the files that the settings name. Raises TritonError."""
    tokenizer = read_tokenizer(settings.tokenizer) if settings.tokenizer is not None else None
    source, where = (tokenizer.template, str(settings.tokenizer)) if tokenizer is not None else ("", "")
    if settings.chat_template is not None:
        source, where = _read(settings.chat_template), str(settings.chat_template)
    special = tokenizer.special if tokenizer is not None else {}
    template = ChatTemplate(source, special, where=where, today=datetime.now) if source else None
    return Prompts(template, tokenizer)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TritonError(f"cannot read worker.triton.chat_template {path}: {error.strerror}") from error
