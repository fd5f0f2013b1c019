"""The names that a worker answers to: its model's and its adapters', which have to differ. It knows no engine."""

from collections.abc import Iterable


def name_clash(model: str, adapters: Iterable[str], where: str) -> str:
    """Why these names cannot be served together, in one sentence; empty where they can.

    A request for the model's name is for the model, so that an adapter of that name would never be applied. `where` is
    what gave the adapters their names, such as a setting.
    """
    if model not in adapters:
        return ""
    return (
        f"{where} names an adapter {model!r}, like the model itself, so that nobody could ask for it: "
        "give one of the two another name; worker.model_name is the model's"
    )
