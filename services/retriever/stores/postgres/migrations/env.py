"""Alembic's entry: runs the steps over the connection that `migrate` hands in."""

from alembic import context

_ATTRIBUTES = context.config.attributes

context.configure(
    connection=_ATTRIBUTES["connection"],
    version_table="schema_version",
    version_table_schema=_ATTRIBUTES["schema"],
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
