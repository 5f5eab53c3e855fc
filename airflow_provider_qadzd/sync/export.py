"""The exports: the backstop for missed webhooks, and the way back into the past.

Live legs read on from their cursor to a little before now, and commit it with every page: downtime neither loses nor
repeats. A run that is cleared reads the stretch it read before, and moves nothing. A window reads exactly its interval,
through a cursor of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger import Ledger, exports, tickets
from airflow_provider_qadzd.ledger.exports import Window
from airflow_provider_qadzd.ledger.store import epoch_of, iso
from airflow_provider_qadzd.sync.receive import Stored, store_tickets, ticket_row
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import ExportPage, Row

TICKETS, EVENTS = "tickets", "ticket_events"
SETTLE = 120.0
"""Seconds before now at which a read stops: Zendesk withholds the last minute of changes."""


@dataclass(frozen=True, slots=True)
class Run:
    """Which run reads, so that clearing it can read the same stretch again."""

    dag_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did. `repaired` tickets moved although no webhook had told of it."""

    pages: int = 0
    tickets: int = 0
    repaired: int = 0
    history: int = 0


def export_live(ledger: Ledger, account_id: int, client: ZendeskClient, run: Run, settle: float = SETTLE) -> Exported:
    """Both live legs up to now minus `settle`: ticket states, then the history of what was done to them."""
    until = ledger.clock.time() - settle
    repaired, rows, pages = 0, 0, 0

    def keep_tickets(tx: Connection, page: ExportPage) -> None:
        nonlocal repaired, rows, pages
        stored = _store_page(tx, ledger, account_id, page.rows)
        moved = [(stored.rows[one], stored.before.get(one)) for one in sorted(stored.moved)]
        events = [tickets.event_of(row, _event_kind(row, before), "export") for row, before in moved]
        tickets.add_events(tx, ledger, account_id, events)
        repaired, rows, pages = repaired + len(moved), rows + len(page.rows), pages + 1

    history = 0

    def keep_history(tx: Connection, page: ExportPage) -> None:
        nonlocal history, pages
        tickets.store_history(tx, account_id, map(_history_row, page.rows))
        history, pages = history + len(page.rows), pages + 1

    _read_leg(ledger, account_id, TICKETS, run, until, lambda at: _ticket_page(client, at), keep_tickets)
    _read_leg(ledger, account_id, EVENTS, run, until, lambda at: _event_page(client, at), keep_history)
    return Exported(pages, rows, repaired, history)


def _read_leg(
    ledger: Ledger, account_id: int, leg: str, run: Run, until: float, page_at: Callable[[str], ExportPage],
    keep: Callable[[Connection, ExportPage], None],
) -> None:  # fmt: skip
    before = exports.stretch_of(ledger, account_id, leg, run.dag_id, run.run_id)
    if before is not None:
        _read_again(ledger, *before, page_at, keep)
    first = position = exports.position_of(ledger, account_id, leg)
    if first is None or position is None:
        raise FixFirst(
            f"The {leg} export of this Zendesk account has no starting point.",
            advice="Run the DAG qadzd_onboard once; it sets it.",
        )
    if before is not None:
        first = before[0]
    while not _too_recent(position, until):
        page = page_at(position)
        with ledger.writing() as tx:
            keep(tx, page)
            exports.move(tx, ledger, account_id, leg, page.cursor)
            exports.extend_stretch(tx, account_id, leg, run.dag_id, run.run_id, first, page.cursor)
        moved, position = page.cursor != position, page.cursor
        if page.end_of_stream or not moved or _reaches(page, until):
            return


def _read_again(
    ledger: Ledger, first: str, last: str, page_at: Callable[[str], ExportPage],
    keep: Callable[[Connection, ExportPage], None],
) -> None:  # fmt: skip
    """The stretch of an earlier try, from `first` until a page ends at or beyond `last`. No cursor moves."""
    position = first
    while position != last:
        page = page_at(position)
        with ledger.writing() as tx:
            keep(tx, page)
        if page.end_of_stream or page.cursor == position:
            return
        position = page.cursor


def _too_recent(position: str, until: float) -> bool:
    start = exports.start_of(position)
    return start is not None and start > until


def _reaches(page: ExportPage, until: float) -> bool:
    return any(float(row.get("generated_timestamp") or 0) > until for row in page.rows[-1:])


def _ticket_page(client: ZendeskClient, position: str) -> ExportPage:
    start = exports.start_of(position)
    return client.exports.tickets(start_time=start) if start is not None else client.exports.tickets(cursor=position)


def _event_page(client: ZendeskClient, position: str) -> ExportPage:
    page = client.exports.ticket_events(exports.start_of(position) or 0)
    return ExportPage(page.rows, exports.start_position(float(page.cursor)), page.end_of_stream)


# -- history -----------------------------------------------------------------------------------------------------------


def export_window(
    ledger: Ledger, account_id: int, client: ZendeskClient, starts: float, ends: float
) -> Window:  # fmt: skip
    """The tickets whose latest change lies in [starts, ends) (Unix seconds). An open window goes on where it stopped;
    a complete one, run again, starts again. The past makes no events: nobody waits for it.
    """
    if ends > ledger.clock.time() - SETTLE:
        raise FixFirst(
            f"The window {iso(starts)} to {iso(ends)} is not over yet.", advice="Export windows of the past only."
        )
    window = exports.window_of(ledger, account_id, TICKETS, iso(starts), iso(ends))
    if window is None or window.complete:
        window = Window(iso(starts), iso(ends), exports.start_position(starts), complete=False, ticket_count=0)
    while not window.complete:
        page = _ticket_page(client, window.position)
        inside = [row for row in page.rows if starts <= _changed(row) < ends]
        beyond = any(_changed(row) >= ends for row in page.rows)
        over = beyond or page.end_of_stream or page.cursor == window.position
        window = Window(window.starts_at, window.ends_at, page.cursor, over, window.ticket_count + len(inside))
        with ledger.writing() as tx:
            _store_page(tx, ledger, account_id, inside)
            exports.save_window(tx, ledger, account_id, TICKETS, window)
    return window


def _changed(row: Mapping[str, Any]) -> float:
    return float(row.get("generated_timestamp") or epoch_of(row["updated_at"]))


def _store_page(tx: Connection, ledger: Ledger, account_id: int, rows: Iterable[Row]) -> Stored:
    now = ledger.clock.time()
    return store_tickets(tx, ledger, account_id, [ticket_row(row, now) for row in rows])


def _event_kind(row: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    """What a move of a ticket's state was, as a webhook would have called it."""
    if row["gone"]:
        return "deleted"
    if before is None and row["created_at"] == row["updated_at"]:
        return "created"
    return "solved" if row["status"] == "solved" and (before or {}).get("status") != "solved" else "updated"


def _history_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "event_id": int(row["id"]), "ticket_id": int(row["ticket_id"]),
        "occurred_at": row.get("created_at") or iso(float(row.get("timestamp") or 0)),
        "updater_id": row.get("updater_id"), "children": row.get("child_events") or [],
    }  # fmt: skip
