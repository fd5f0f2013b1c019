"""The `vllm` engine's settings."""

from services.kit.settings.shared import Section


class VllmSettings(Section):
    """The `vllm` engine."""
