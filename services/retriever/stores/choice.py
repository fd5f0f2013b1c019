"""The store that the settings name. Each is imported only where it is used."""

from collections.abc import Callable
from pathlib import Path

from services.kit.clock import Now
from services.kit.settings.retriever import RetrieverSettings
from services.retriever.ports import Store


def store_of(data_dir: Path, settings: RetrieverSettings, now: Now, on_restart: Callable[[], None]) -> Store:
    """Not started yet."""
    if settings.store == "qdrant":
        from services.retriever.stores.qdrant.store import QdrantStore

        return QdrantStore.at(settings)
    if settings.store == "postgres":
        from services.retriever.stores.postgres.store import PostgresStore

        return PostgresStore(settings)
    from services.retriever.stores.edge.store import EdgeStore

    return EdgeStore(data_dir, settings, now, on_restart)
