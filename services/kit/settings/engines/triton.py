"""The `triton` engine's settings."""

from services.kit.settings.shared import Section


class TritonSettings(Section):
    """The `triton` engine."""
