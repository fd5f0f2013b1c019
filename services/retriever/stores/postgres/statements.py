# ruff: noqa: S608 - names of tables are checked, and every value is a parameter
"""The SQL of one collection's partitions. Names of tables are made of the collection's name, which is checked."""

import re

_COLLECTION = re.compile(r"[a-z0-9_-]{1,40}")

# pgvector's graphs take vectors up to this length; longer ones are kept in half precision there.
_MAX_FULL_DIMENSIONS = 2000


class Statements:
    """What is said to the database about one collection."""

    def __init__(self, collection: str, dimensions: int, quantised: bool) -> None:
        if not _COLLECTION.fullmatch(collection):
            raise ValueError(f"{collection!r} is no collection's name")
        self.chunks = f'"chunks_{collection}"'
        self.postings = f'"postings_{collection}"'
        self.graph = f'"graph_{collection}"'
        quantised = quantised or dimensions > _MAX_FULL_DIMENSIONS
        self._kind = f"halfvec({dimensions})" if quantised else f"vector({dimensions})"
        self._classes = "halfvec_cosine_ops" if quantised else "vector_cosine_ops"
        self._exact = f"vector({dimensions})"

    @property
    def create(self) -> list[str]:
        """Makes its partitions; `:collection` cannot be a parameter there."""
        name = self.chunks.removeprefix('"chunks_').removesuffix('"')
        return [
            f"CREATE TABLE {self.chunks} PARTITION OF chunks FOR VALUES IN ('{name}')",
            f"CREATE TABLE {self.postings} PARTITION OF postings FOR VALUES IN ('{name}')",
        ]

    @property
    def drop(self) -> list[str]:
        """Drops them."""
        return [f"DROP TABLE IF EXISTS {self.chunks}", f"DROP TABLE IF EXISTS {self.postings}"]

    @property
    def vacuum(self) -> str:
        """Lets words be read from their index alone."""
        return f"VACUUM (ANALYZE) {self.postings}"

    @property
    def create_graph(self) -> str:
        """Builds the graph while the table is read and written."""
        return (
            f"CREATE INDEX CONCURRENTLY {self.graph} ON {self.chunks} "
            f"USING hnsw ((embedding::{self._kind}) {self._classes})"
        )

    @property
    def insert(self) -> str:
        """One chunk's row."""
        return (
            f"INSERT INTO {self.chunks} (collection, document_id, version, chunk_id, visible, tags, numbers, content, "
            "terms, weights, embedding) VALUES (:collection, :document_id, :version, :chunk_id, :visible, :tags, "
            "CAST(:numbers AS jsonb), CAST(:content AS jsonb), :terms, :weights, CAST(:embedding AS vector))"
        )

    @property
    def insert_postings(self) -> str:
        """The postings of every chunk of one version."""
        return (
            f"INSERT INTO {self.postings} (collection, term, chunk, weight) "
            "SELECT collection, word.term, id, word.weight "
            f"FROM {self.chunks}, unnest(terms, weights) AS word (term, weight) "
            "WHERE document_id = :document_id AND version = :version"
        )

    def delete(self, condition: str) -> str:
        """Deletes chunks of `:document_id`, with their postings; the answer is their number."""
        return (
            f"WITH gone AS (DELETE FROM {self.chunks} WHERE document_id = :document_id AND {condition} RETURNING id), "
            f"words AS (DELETE FROM {self.postings} WHERE chunk IN (SELECT id FROM gone)) "
            "SELECT count(*) FROM gone"
        )

    def nearest(self, condition: str) -> str:
        """Ids and cosines of the nearest chunks; with halves in the graph, twice as many are looked at exactly."""
        distance = f"embedding::{self._kind} <=> CAST(:vector AS {self._kind})"
        inner = (
            f"SELECT id, embedding FROM {self.chunks} WHERE visible AND {condition} ORDER BY {distance} LIMIT :reach"
        )
        exact = f"1 - (embedding::{self._exact} <=> CAST(:vector AS {self._exact}))"
        return f"WITH near AS MATERIALIZED ({inner}) SELECT id, {exact} AS score FROM near ORDER BY 2 DESC LIMIT :limit"

    @property
    def frequencies(self) -> str:
        """In how many chunks each term is now."""
        return f"SELECT term, count(*)::float8 AS chunks FROM {self.postings} WHERE term = ANY(:terms) GROUP BY term"

    def words(self, condition: str) -> str:
        """Ids and BM25 scores of the best chunks, for terms and the IDF of each."""
        scored = (
            f"SELECT chunk, sum(weight * idf) AS score FROM {self.postings} "
            "JOIN unnest(CAST(:terms AS bigint[]), CAST(:idfs AS float8[])) AS rare (term, idf) USING (term) "
            "GROUP BY chunk"
        )
        if condition == "TRUE":
            return f"{scored} ORDER BY score DESC, chunk LIMIT :limit"
        return (
            f"WITH scored AS ({scored}) SELECT chunk, score FROM scored JOIN {self.chunks} ON id = chunk "
            f"WHERE {condition} ORDER BY score DESC, chunk LIMIT :limit"
        )
