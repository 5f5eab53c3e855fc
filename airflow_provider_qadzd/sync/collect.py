"""From QAD into the ledger, a page at a time, with a record of whether the read was complete.

A page is stored as it comes; whether that was all is known only at the end, and written only then. Nothing is ever
concluded from what did not come: zero rows, a fault or a shrinking read leave what was known in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_qadzd.ledger import Ledger, accounts
from airflow_provider_qadzd.qad.reader import QadReader, Read
from airflow_provider_qadzd.records import Contact, Customer
from airflow_provider_qadzd.sync.mapping import DEFAULT, FieldMapping


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
    ledger: Ledger, source_id: int, client: QadReader, run: str, mapping: FieldMapping = DEFAULT
) -> list[Collected]:  # fmt: skip
    """Read all customers, then all contacts, with the columns that the mapping names, and no others.

    A fault raises after the pages before it were stored.
    """
    return [
        _read(ledger, source_id, "customer", client.customers(mapping.columns("organization")), run),
        _read(ledger, source_id, "contact", client.contacts(mapping.columns("user")), run),
    ]


def _read(
    ledger: Ledger, source_id: int, kind: str, read: Read[Customer] | Read[Contact], run: str
) -> Collected:  # fmt: skip
    read_id = accounts.begin_read(ledger, source_id, kind, "full", run)
    try:
        for page in read:
            accounts.save_page(ledger, source_id, kind, read_id, list(_payloads(page)), _pairs(page))
    except BaseException as error:
        accounts.end_read(ledger, read_id, complete=False, reason=str(error) or type(error).__name__)
        raise
    accounts.end_read(ledger, read_id, complete=read.complete, reason=read.reason)
    return Collected(kind, read.rows, read.complete, read.reason, dict(read.refused))


def _payloads(page: Iterable[Customer | Contact]) -> Iterator[tuple[str, dict[str, Any]]]:
    for record in page:
        payload = asdict(record)
        if isinstance(record, Contact):
            # The customers of a contact are kept apart, so that one person at two of them is one payload.
            yield record.key, {**payload, "customer": "", "scope": "", "contact_id": record.key}
        else:
            yield record.key, payload


def _pairs(page: Iterable[Customer | Contact]) -> list[tuple[str, str]]:
    return [(record.key, record.customer_key) for record in page if isinstance(record, Contact)]
