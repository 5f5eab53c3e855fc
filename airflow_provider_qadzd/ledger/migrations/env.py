"""Run by Alembic. The connection is handed in by `Ledger.upgrade`, which holds the lock."""

from __future__ import annotations

from alembic import context

from airflow_provider_qadzd.ledger.schema import metadata
from airflow_provider_qadzd.ledger.store import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_name=lambda name, type_, _parents: type_ != "table" or str(name).startswith("qadzd_"),
)
with context.begin_transaction():
    context.run_migrations()
