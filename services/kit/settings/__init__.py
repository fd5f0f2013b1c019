"""The settings tree and how it is read."""

from services.kit.settings.tree import Settings, SettingsError, known_keys, load_settings, to_environment

__all__ = ["Settings", "SettingsError", "known_keys", "load_settings", "to_environment"]
