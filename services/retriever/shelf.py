"""What the library keeps of its indexes: names, aliases, options and where each is. Values only, and their JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from services.retriever.document import EmbeddingModel, Fusion, IndexOptions, Rerank, Spec


@dataclass(frozen=True, slots=True)
class Entry:
    """One index: the store's collection that holds it, how that is built, and what the index was told."""

    collection: str
    spec: Spec
    options: IndexOptions


@dataclass(frozen=True, slots=True)
class Shelf:
    """Every index by name, and the index of each alias."""

    entries: Mapping[str, Entry]
    aliases: Mapping[str, str]

    def real_name(self, name: str) -> str:
        """The index's own name, where `name` is an alias; otherwise `name`."""
        return self.aliases.get(name, name)

    def aliases_of(self, name: str) -> tuple[str, ...]:
        """Other names for an index, sorted."""
        return tuple(sorted(alias for alias, index in self.aliases.items() if index == name))

    def with_entry(self, name: str, entry: Entry) -> "Shelf":
        """With this index in the place of any of that name."""
        return replace(self, entries={**self.entries, name: entry})

    def without_entry(self, name: str) -> "Shelf":
        """Without this index and its aliases."""
        entries = {key: entry for key, entry in self.entries.items() if key != name}
        return Shelf(entries, {alias: index for alias, index in self.aliases.items() if index != name})

    def with_alias(self, alias: str, name: str) -> "Shelf":
        """With this alias for that index."""
        return replace(self, aliases={**self.aliases, alias: name})

    def without_alias(self, alias: str) -> "Shelf":
        """Without this alias."""
        return replace(self, aliases={key: name for key, name in self.aliases.items() if key != alias})

    def to_json(self) -> bytes:
        """One JSON object."""
        entries = {
            name: {
                "collection": entry.collection,
                "spec": asdict(entry.spec),
                "options": options_values(entry.options),
            }
            for name, entry in self.entries.items()
        }
        return json.dumps({"indexes": entries, "aliases": dict(self.aliases)}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Shelf":
        """The inverse of `to_json`."""
        found = json.loads(text)
        entries = {
            name: Entry(entry["collection"], spec_from(entry["spec"]), options_from(entry["options"]))
            for name, entry in found["indexes"].items()
        }
        return cls(entries, found["aliases"])


def spec_from(values: dict[str, object]) -> Spec:
    """The inverse of `asdict`."""
    model = values["model"]
    assert isinstance(model, dict)
    return Spec(EmbeddingModel(**model), str(values["bm25_language"]), bool(values["quantised"]))


def rebuilt(options: IndexOptions, changes: IndexOptions) -> IndexOptions:
    """The options of an index that is built anew with these changes; what they leave out stays."""
    return replace(
        options,
        embedding_model=changes.embedding_model or options.embedding_model,
        bm25_language=changes.bm25_language or options.bm25_language,
        quantised=changes.quantised or options.quantised,
    )


def options_values(options: IndexOptions) -> dict[str, object]:
    """Its fields, with enums by their values."""
    return {
        **asdict(options),
        "fusion": options.fusion.value if options.fusion else None,
        "rerank": options.rerank.value if options.rerank else None,
    }


def options_from(values: dict[str, object]) -> IndexOptions:
    """The inverse of `options_values`."""
    fusion, rerank = values.get("fusion"), values.get("rerank")
    rest = {key: value for key, value in values.items() if key not in ("fusion", "rerank")}
    return replace(
        IndexOptions(),
        **rest,  # type: ignore[arg-type] # they were written from the same fields
        fusion=Fusion(fusion) if fusion else None,
        rerank=Rerank(rerank) if rerank else None,
    )
