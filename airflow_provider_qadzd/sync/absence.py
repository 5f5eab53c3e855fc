"""Which QAD customers and contacts are gone, judged after a read, and whether a read may be believed at all.

A record is gone that several complete full reads over days have missed; a customer besides only if QAD, asked for it by
its key, does not find it (where it can be asked so). A read that is empty, or much smaller than the one before, is not
complete, whatever QAD says. What gone means in Zendesk is the mapping's.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_qadzd.ledger import Ledger, absence
from airflow_provider_qadzd.qad.reader import QadReader
from airflow_provider_qadzd.sync.plan import Brake

_PAGE = 100
MOST_ASKED = 2000
"""Customers asked for by key in one run; the others are asked for in the next."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How many complete full reads must have missed a record, and over how many hours, until it is gone."""

    reads: int = 3
    hours: float = 48.0


PATIENCE = Patience()


def judge(ledger: Ledger, source_id: int, client: QadReader, patience: Patience) -> dict[str, int]:
    """Note which records are gone. How many that are news, by kind."""
    found = {"customer": 0, "contact": 0}
    customers = absence.bound(ledger, source_id, "customer", patience.reads, patience.hours * 3600)
    if customers is not None:
        found["customer"] = _ask_for_missing(ledger, source_id, client, customers)
    contacts = absence.bound(ledger, source_id, "contact", patience.reads, patience.hours * 3600)
    if contacts is not None:
        found["contact"] = absence.mark(ledger, source_id, "contact", contacts)
    return found


def _ask_for_missing(ledger: Ledger, source_id: int, client: QadReader, before: int) -> int:
    """Ask QAD for each missing customer by its key, a page at a time. How many are gone."""
    gone = 0
    for _ in range(MOST_ASKED // _PAGE):
        rows = absence.missing(ledger, source_id, "customer", before, _PAGE)
        if not rows:
            break
        there = {
            row.record_key
            for row in rows
            if client.customer_exists(row.payload.get("shared_set", ""), row.payload["code"])
        }
        absence.seen_by_key(ledger, source_id, "customer", there)
        not_there = [row.record_key for row in rows if row.record_key not in there]
        gone += absence.mark(ledger, source_id, "customer", before, not_there)
    return gone


def doubted(rows: int, before: int | None, brake: Brake) -> str:
    """Why a full read that QAD calls complete is not believed, empty if it is. `before`: rows of the last one."""
    if not before or rows >= before:
        return ""
    if not rows and brake.deactivations_share < 1.0:
        return f"no rows, where the last full read had {before}"
    allowed = brake.allowed("deactivations", before)
    if before - rows > allowed:
        return (
            f"{rows} rows, where the last full read had {before}: the brake allows {allowed} fewer. If that is right, "
            "run once with the parameter release_brake set to true"
        )
    return ""
