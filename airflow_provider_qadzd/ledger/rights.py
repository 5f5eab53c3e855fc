"""What the database itself lets a receiver do: whoever breaks into the one on the internet gets no further than this.

It reads accounts and the signing secrets, and adds to the inbox. Tokens, links, tickets and records of people are
hidden from its role, whatever it asks.
"""

from __future__ import annotations

from sqlalchemy import text

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.schema import account, credential, inbox
from airflow_provider_qadzd.ledger.store import VERSION_TABLE, Ledger
from airflow_provider_qadzd.ledger.vault import SIGNING

_POLICY = "qadzd_receiver_reads"
_IS_SIGNING = f"starts_with(credential_name, '{SIGNING}')"


# https://www.postgresql.org/docs/current/ddl-rowsecurity.html
def grant_to_receiver(ledger: Ledger, role: str) -> None:
    """Let an existing PostgreSQL role do what a receiver does. Again, after each upgrade, does no harm.

    FixFirst on SQLite, which knows no roles, and where the database refuses. The tables' owner is held by no policy.
    """
    if ledger.is_sqlite:
        raise FixFirst("SQLite knows no roles.", advice="Keep the ledger in PostgreSQL, or leave the role out.")
    quoted = ledger.engine.dialect.identifier_preparer.quote(role)
    statements = [
        f"GRANT SELECT ON {VERSION_TABLE}, {account.name}, {credential.name} TO {quoted}",
        f"GRANT SELECT, INSERT, UPDATE ON {inbox.name} TO {quoted}",
        f"GRANT USAGE ON SEQUENCE {inbox.name}_delivery_id_seq TO {quoted}",
        f"ALTER TABLE {credential.name} ENABLE ROW LEVEL SECURITY",
        f"DROP POLICY IF EXISTS {_POLICY} ON {credential.name}",
        f"CREATE POLICY {_POLICY} ON {credential.name} FOR SELECT TO {quoted} USING ({_IS_SIGNING})",
    ]
    with ledger.writing() as tx:
        for statement in statements:
            tx.execute(text(statement.replace(":", r"\:")))
