"""Which hook reads a QAD connection: one for each edition, by the connection's type. Nobody else asks which it is."""

from __future__ import annotations

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.hooks.qad import QadHook
from airflow_provider_qadzd.ledger import Ledger

HOOKS: dict[str, type[QadHook]] = {QadHook.conn_type: QadHook}
"""The hook of each connection type."""


def qad_hook(conn_id: str, ledger: Ledger | None = None) -> QadHook:
    """The hook that reads this connection. FixFirst if it is of another type."""
    conn_type = config.connection(conn_id).conn_type
    if conn_type not in HOOKS:
        advice = f"Make it one of {', '.join(HOOKS)}."
        raise FixFirst(f"connection {conn_id} is of type {conn_type!r}, which no QAD is read by.", advice=advice)
    return HOOKS[conn_type](conn_id, ledger)
