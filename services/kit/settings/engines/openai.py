"""The `openai` engine's settings."""

from services.kit.settings.shared import Section


class OpenAISettings(Section):
    """The `openai` engine."""
