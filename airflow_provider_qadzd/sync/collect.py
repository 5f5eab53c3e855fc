"""From QAD into the ledger, a page at a time, with a record of whether the read was complete.

A page is stored as it comes; whether that was all is known only at the end, and written only then. Nothing is ever
concluded from what did not come: zero rows, a fault or a shrinking read leave what was known in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_qadzd.ledger import Ledger, absence, accounts
from airflow_provider_qadzd.qad.client import QadClient, Read
from airflow_provider_qadzd.records import Contact, Customer
from airflow_provider_qadzd.sync.absence import PATIENCE, Patience, doubted, judge
from airflow_provider_qadzd.sync.plan import Brake


@dataclass(frozen=True, slots=True)
class Collected:
    """One read: how many rows came, whether that was all of them, why not, and rows refused by reason."""

    kind: str
    rows: int
    complete: bool
    reason: str
    refused: Mapping[str, int]

    def summary(self) -> str:
        """One line for the log."""
        state = "complete" if self.complete else f"incomplete: {self.reason}"
        refused = "".join(f", {count} refused ({why})" for why, count in self.refused.items())
        return f"{self.rows} {self.kind} rows, {state}{refused}"


def collect(
    ledger: Ledger, source_id: int, client: QadClient, run: str, *, brake: Brake = Brake(),  # noqa: B008 - frozen
    patience: Patience = PATIENCE,
) -> list[Collected]:  # fmt: skip
    """Read all customers, then all contacts, then judge what is gone.

    A fault raises after the pages before it were stored. `brake` says by how much a read may shrink.
    """
    reads = [
        _read(ledger, source_id, "customer", client.customers(), run, brake),
        _read(ledger, source_id, "contact", client.contacts(), run, brake),
    ]
    judge(ledger, source_id, client, patience)
    return reads


def _read(
    ledger: Ledger, source_id: int, kind: str, read: Read[Customer] | Read[Contact], run: str, brake: Brake
) -> Collected:  # fmt: skip
    before = absence.last_reads(ledger, source_id, kind)
    read_id = accounts.begin_read(ledger, source_id, kind, "full", run)
    try:
        for page in read:
            accounts.save_page(ledger, source_id, kind, read_id, list(_payloads(page)), _pairs(page))
    except BaseException as error:
        accounts.end_read(ledger, read_id, complete=False, reason=str(error) or type(error).__name__)
        raise
    reason = read.reason or _unreadable(read.refused)
    if read.complete and not reason:
        reason = doubted(absence.row_count(ledger, read_id), before.full_rows, brake)
    complete = read.complete and not reason
    accounts.end_read(ledger, read_id, complete=complete, reason=reason)
    return Collected(kind, read.rows, complete, reason, dict(read.refused))


def _unreadable(refused: Mapping[str, int]) -> str:
    """A record whose row could not be read was there all the same: it must not come to count as missing."""
    found = sorted(reason for reason in refused if reason.startswith("unreadable_"))
    return f"{sum(refused[reason] for reason in found)} rows have values that cannot be read" if found else ""


def _payloads(page: Iterable[Customer | Contact]) -> Iterator[tuple[str, dict[str, Any]]]:
    for record in page:
        payload = asdict(record)
        if isinstance(record, Contact):
            # The customers of a contact are kept apart, so that one person at two of them is one payload.
            yield record.key, {**payload, "customer": "", "contact_id": record.key}
        else:
            yield record.code, payload


def _pairs(page: Iterable[Customer | Contact]) -> list[tuple[str, str]]:
    return [(record.key, record.customer) for record in page if isinstance(record, Contact)]
