"""The memory: what was read, wanted, seen, sent and answered, in one database that all processes share."""

from __future__ import annotations

from airflow_provider_qadzd.ledger.store import Ledger, Transaction

__all__ = ["Ledger", "Transaction"]
