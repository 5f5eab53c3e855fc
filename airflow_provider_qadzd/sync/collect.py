"""From QAD into the ledger, a page at a time, with a record of whether the read was complete.

A page is stored as it comes; whether that was all is known only at the end, and written only then. Nothing is ever
concluded from what did not come: zero rows, a fault or a shrinking read leave what was known in place.

Where QAD dates changes, most reads are deltas: what was changed since the day before the last read. Everything is read
where it does not, when asked to, and when the last full read is long ago.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

from msgspec.structs import asdict

from airflow_provider_qadzd.ledger import Ledger, absence, accounts
from airflow_provider_qadzd.ledger.absence import LastReads
from airflow_provider_qadzd.ledger.store import iso
from airflow_provider_qadzd.qad.reader import QadReader, Read
from airflow_provider_qadzd.records import Contact, Customer, digest
from airflow_provider_qadzd.sync.absence import PATIENCE, Patience, doubted, judge
from airflow_provider_qadzd.sync.mapping import DEFAULT, FieldMapping
from airflow_provider_qadzd.sync.plan import Brake

OVERLAP = timedelta(days=1)
"""QAD's dates are local to its site and have no time of day: a day more is read than seems needed."""
FULL_AT_LEAST_EVERY = 36 * 3600.0
"""Seconds after which a read is full although nobody asked for it: the nightly one may be paused."""

ReadKind = Literal["customer", "contact"]


@dataclass(frozen=True, slots=True)
class Collected:
    """One read: how many rows came, whether that was all of them, why not, and rows refused by reason.

    `mode`: `full`, or `delta` for only what was changed lately.
    """

    kind: str
    rows: int
    complete: bool
    reason: str
    refused: Mapping[str, int]
    mode: str = "full"

    def summary(self) -> str:
        """One line for the log."""
        state = "complete" if self.complete else f"incomplete: {self.reason}"
        refused = "".join(f", {count} refused ({why})" for why, count in self.refused.items())
        return f"{self.rows} {self.kind} rows, {self.mode} read, {state}{refused}"


def collect(
    ledger: Ledger, source_id: int, client: QadReader, run: str, mapping: FieldMapping = DEFAULT, *,
    full: bool = False,
    brake: Brake = Brake(),  # noqa: B008 - frozen
    patience: Patience = PATIENCE,
) -> list[Collected]:  # fmt: skip
    """Read the customers, then the contacts, with the columns that the mapping names; then judge what is gone.

    A fault raises after the pages before it were stored. `brake` says by how much a full read may shrink.
    """
    reads = [
        _collect(ledger, source_id, client, "customer", mapping.columns("organization"), run, full, brake),
        _collect(ledger, source_id, client, "contact", mapping.columns("user"), run, full, brake),
    ]
    if any(read.mode == "full" for read in reads):
        judge(ledger, source_id, client, patience)
    return reads


def delta_since(last: LastReads, columns: str, now: float) -> str:
    """The day (`YYYY-MM-DD`) from which on a delta must read, empty where everything must be read.

    `columns` is the digest of the columns that are to be taken along: others than before must be read of every record.

    It begins where the newest known change lies, if that is before the last read: then at least that record comes, and
    a filter that finds nothing at all is noticed.
    """
    long_ago = last.full_begun is None or now - last.full_begun > FULL_AT_LEAST_EVERY
    if long_ago or last.full_rows is None or last.begun is None or not last.newest or last.columns != columns:
        return ""
    day = min(last.newest, iso(last.begun)[:10])
    return (date.fromisoformat(day) - OVERLAP).isoformat()


def _collect(
    ledger: Ledger, source_id: int, client: QadReader, kind: ReadKind, further: Mapping[str, str], run: str, full: bool,
    brake: Brake,
) -> Collected:  # fmt: skip
    columns = digest(sorted(further)) if further else ""
    last = absence.last_reads(ledger, source_id, kind)
    since = "" if full else delta_since(last, columns, ledger.clock.time())
    changed: Read[Customer] | Read[Contact] | None
    everything: Read[Customer] | Read[Contact]
    if since:
        ask = client.changed_customers if kind == "customer" else client.changed_contacts
        changed = ask(since, further)
        if changed is not None:
            found = _read(ledger, source_id, kind, changed, run, "delta", columns, last, brake)
            # A filter that QAD does not understand is answered with no rows: what is known to be there did not come.
            if found.rows:
                return found
    everything = client.customers(further) if kind == "customer" else client.contacts(further)
    return _read(ledger, source_id, kind, everything, run, "full", columns, last, brake)


def _read(
    ledger: Ledger, source_id: int, kind: str, read: Read[Customer] | Read[Contact], run: str, mode: str,
    columns: str, last: LastReads, brake: Brake,
) -> Collected:  # fmt: skip
    read_id = accounts.begin_read(ledger, source_id, kind, mode, run, columns)
    try:
        for page in read:
            accounts.save_page(ledger, source_id, kind, read_id, list(_payloads(page)), _pairs(page))
    except BaseException as error:
        accounts.end_read(ledger, read_id, complete=False, reason=str(error) or type(error).__name__)
        raise
    reason = read.reason or _unreadable(read.refused)
    if not reason and mode == "full":
        reason = doubted(absence.row_count(ledger, read_id), last.full_rows, brake)
    elif not reason and not read.rows:
        reason = "a delta without the newest known change: QAD may not understand its filter"
    complete = read.complete and not reason
    accounts.end_read(ledger, read_id, complete=complete, reason=reason)
    return Collected(kind, read.rows, complete, reason, dict(read.refused), mode)


def _unreadable(refused: Mapping[str, int]) -> str:
    """A record whose row could not be read was there all the same: it must not come to count as missing."""
    found = sorted(reason for reason in refused if reason.startswith("unreadable_"))
    return f"{sum(refused[reason] for reason in found)} rows have values that cannot be read" if found else ""


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
