"""The first tables. `chunks` and `postings` are parents only: each collection has partitions of its own."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE state (one boolean PRIMARY KEY DEFAULT true CHECK (one), content bytea NOT NULL);

CREATE TABLE collections (
  collection text PRIMARY KEY,
  spec jsonb NOT NULL,
  documents bigint NOT NULL DEFAULT 0,
  chunks bigint NOT NULL DEFAULT 0,
  has_graph boolean NOT NULL DEFAULT false
);

CREATE TABLE documents (
  collection text NOT NULL REFERENCES collections ON DELETE CASCADE,
  document_id text COLLATE "C" NOT NULL,
  version text NOT NULL,
  chunks integer NOT NULL,
  tags text[] NOT NULL,
  numbers jsonb NOT NULL,
  record jsonb NOT NULL,
  PRIMARY KEY (collection, document_id)
);

CREATE SEQUENCE chunk_ids;

CREATE TABLE chunks (
  collection text NOT NULL,
  id bigint NOT NULL DEFAULT nextval('chunk_ids'),
  document_id text COLLATE "C" NOT NULL,
  version text NOT NULL,
  chunk_id text COLLATE "C" NOT NULL,
  visible boolean NOT NULL,
  added_at timestamptz NOT NULL DEFAULT now(),
  tags text[] NOT NULL,
  numbers jsonb NOT NULL,
  content jsonb NOT NULL,
  terms bigint[] NOT NULL,
  weights real[] NOT NULL,
  embedding vector NOT NULL
) PARTITION BY LIST (collection);
ALTER TABLE chunks ALTER COLUMN embedding SET STORAGE MAIN;
CREATE UNIQUE INDEX chunks_id ON chunks (collection, id);
CREATE UNIQUE INDEX chunks_key ON chunks (collection, document_id, version, chunk_id);
CREATE INDEX chunks_tags ON chunks USING gin (tags);

CREATE TABLE postings (
  collection text NOT NULL,
  term bigint NOT NULL,
  chunk bigint NOT NULL,
  weight real NOT NULL
) PARTITION BY LIST (collection);
CREATE INDEX postings_term ON postings (term) INCLUDE (chunk, weight);
CREATE INDEX postings_chunk ON postings (chunk);
"""


def upgrade() -> None:
    """Makes them."""
    for statement in _TABLES.split(";"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Drops them."""
    for table in ("postings", "chunks", "documents", "collections", "state"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP SEQUENCE chunk_ids")
