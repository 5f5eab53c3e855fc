"""Where every incremental export goes on: cursors, the stretch each run read, and history windows.

A position is Zendesk's opaque cursor, or `start:<unix seconds>`. It is written in the transaction that stores the page
it ends, never apart from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, select

from airflow_provider_qadzd.ledger.bulk import upsert
from airflow_provider_qadzd.ledger.schema import export_cursor, export_run, export_window
from airflow_provider_qadzd.ledger.store import Ledger


@dataclass(frozen=True, slots=True)
class Window:
    """One interval of the history export. `position` is where it goes on while it is open."""

    starts_at: str
    ends_at: str
    position: str
    complete: bool
    ticket_count: int


def start_position(epoch: float) -> str:
    """The position of an export that starts at a time instead of a cursor."""
    return f"start:{int(epoch)}"


def start_of(position: str) -> int | None:
    """The Unix seconds of a `start:` position, None for a cursor."""
    return int(position[6:]) if position.startswith("start:") else None


def position_of(ledger: Ledger, account_id: int, leg: str) -> str | None:
    """Where this leg goes on, None before its first page."""
    with ledger.reading() as tx:
        return tx.execute(
            select(export_cursor.c.position).where(export_cursor.c.account_id == account_id, export_cursor.c.leg == leg)
        ).scalar_one_or_none()


def move(tx: Connection, ledger: Ledger, account_id: int, leg: str, position: str) -> None:
    """The page that ends at `position` is stored in this transaction."""
    row = {"account_id": account_id, "leg": leg, "position": position, "moved_at": ledger.now()}
    upsert(tx, export_cursor, [row])


def start_once(ledger: Ledger, account_id: int, leg: str, position: str) -> None:
    """Where a leg starts, unless it has started already."""
    row = {"account_id": account_id, "leg": leg, "position": position, "moved_at": ledger.now()}
    with ledger.writing() as tx:
        upsert(tx, export_cursor, [row], keep=["position", "moved_at"])


def stretch_of(ledger: Ledger, account_id: int, leg: str, dag_id: str, run_id: str) -> tuple[str, str] | None:
    """The first and last position that this run read before, None if it has read nothing yet."""
    with ledger.reading() as tx:
        row = tx.execute(select(export_run).where(_run(account_id, leg, dag_id, run_id))).one_or_none()
    return None if row is None else (row.first_position, row.last_position)


def extend_stretch(
    tx: Connection, account_id: int, leg: str, dag_id: str, run_id: str, first: str, last: str
) -> None:  # fmt: skip
    """The run has read on to `last`; where it began stays."""
    row = {
        "account_id": account_id, "leg": leg, "dag_id": dag_id, "run_id": run_id, "first_position": first,
        "last_position": last,
    }  # fmt: skip
    upsert(tx, export_run, [row], keep=["first_position"])


def window_of(ledger: Ledger, account_id: int, leg: str, starts_at: str, ends_at: str) -> Window | None:
    """The window of exactly these bounds, None if it was never opened."""
    c = export_window.c
    bounds = and_(c.account_id == account_id, c.leg == leg, c.starts_at == starts_at, c.ends_at == ends_at)
    with ledger.reading() as tx:
        row = tx.execute(select(export_window).where(bounds)).one_or_none()
    if row is None:
        return None
    return Window(row.starts_at, row.ends_at, row.position, row.window_state == "complete", row.ticket_count)


def save_window(tx: Connection, ledger: Ledger, account_id: int, leg: str, window: Window) -> None:
    """The window as it stands after the page stored in this transaction."""
    row: dict[str, Any] = {
        "account_id": account_id, "leg": leg, "starts_at": window.starts_at, "ends_at": window.ends_at,
        "position": window.position, "window_state": "complete" if window.complete else "open",
        "ticket_count": window.ticket_count, "moved_at": ledger.now(),
    }  # fmt: skip
    upsert(tx, export_window, [row])


def _run(account_id: int, leg: str, dag_id: str, run_id: str) -> Any:
    c = export_run.c
    return and_(c.account_id == account_id, c.leg == leg, c.dag_id == dag_id, c.run_id == run_id)
