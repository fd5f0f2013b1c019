"""What keeps the vllm engine from starting."""

from services.kit.errors import WeftError


class ModelError(WeftError):
    """The model or the settings cannot be used; the worker does not start."""

    reason_default = "MODEL_UNUSABLE"
