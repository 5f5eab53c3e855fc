"""The exports: the backstop for missed webhooks, and the way back into the past.

Live legs read on from their cursor to a little before now, and commit it with every page: downtime neither loses nor
repeats. A run that is cleared reads the stretch it read before, and moves nothing; one that was cut short goes on.
A window reads exactly its interval, through a cursor of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.ledger import Ledger, Transaction, exports, tickets
from airflow_provider_qadzd.ledger.exports import Window
from airflow_provider_qadzd.ledger.store import epoch_of, iso
from airflow_provider_qadzd.sync.receive import Stored, store_tickets, ticket_row
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import ExportPage, Row

TICKETS, EVENTS = "tickets", "ticket_events"
SETTLE = 120.0
"""Seconds before now at which a read stops: Zendesk withholds the last minute of changes."""
LEFT_TO_LIVE = 0.4
"""The part of an account's export calls (4 of 10 a minute) that reading the past leaves to live runs."""


@dataclass(frozen=True, slots=True)
class Run:
    """Which run reads, so that clearing it can read the same stretch again."""

    dag_id: str
    run_id: str


@dataclass(slots=True)
class Exported:
    """What an export did. `repaired` tickets moved although no webhook had told of it."""

    pages: int = 0
    tickets: int = 0
    repaired: int = 0
    history: int = 0


def export_live(
    ledger: Ledger, account_id: int, client: ZendeskClient, run: Run, settle: float = SETTLE,
    done: Exported | None = None,
) -> Exported:  # fmt: skip
    """Both live legs up to now minus `settle`: ticket states, then the history of what was done to them.

    What it does is added to `done` with each page, so that whoever is stopped in between can tell and go on.
    """
    until = ledger.clock.time() - settle
    done = done or Exported()

    def keep_tickets(tx: Transaction, page: ExportPage) -> None:
        stored = _store_page(tx, ledger, account_id, page.rows, page.solved_at)
        # Those that a delivery still to be drained tells of get their event from it.
        untold = stored.moved - tickets.told_of(tx, account_id, sorted(stored.moved))
        moved = [(stored.rows[one], stored.before.get(one)) for one in sorted(untold)]
        events = [tickets.event_of(row, _event_kind(row, before), "export") for row, before in moved]
        tickets.add_events(tx, ledger, account_id, events)
        done.repaired += len(moved)
        done.tickets += len(page.rows)
        done.pages += 1

    def keep_history(tx: Transaction, page: ExportPage) -> None:
        tickets.store_history(tx, account_id, map(_history_row, page.rows))
        done.history += len(page.rows)
        done.pages += 1

    legs = (
        _Leg(ledger, account_id, TICKETS, run, lambda at: _ticket_page(client, at), keep_tickets),
        _Leg(ledger, account_id, EVENTS, run, lambda at: _event_page(client, at), keep_history),
    )
    if all(leg.ended for leg in legs):
        for leg in legs:
            leg.read_again()
        for leg in legs:
            leg.forget_again()
    for leg in legs:
        if not leg.ended:
            leg.read_on(until)
    return done


_GOES_ON = "goes on after "
"""How the end of a run's stretch is written while the run has not ended; then it is a `start:` position."""


class _Leg:
    """One leg of one run: reads on, or reads again what the run read before it was cleared.

    A try that was cut short goes on where it stopped, in both cases. The stretch begins where the run's first try did.
    """

    def __init__(
        self, ledger: Ledger, account_id: int, name: str, run: Run, page_at: Callable[[str], ExportPage],
        keep: Callable[[Transaction, ExportPage], None],
    ) -> None:  # fmt: skip
        self._ledger, self._account_id, self._name, self._run = ledger, account_id, name, run
        self._page_at, self._keep = page_at, keep
        position = exports.position_of(ledger, account_id, name)
        if position is None:
            raise FixFirst(
                f"The {name} export of this Zendesk account has no starting point.",
                advice="Run the DAG qadzd_onboard once; it sets it.",
            )
        self._position = position
        self._first, last = self._known(name) or (position, f"{_GOES_ON}0")
        self.ended = exports.start_of(last) is not None
        self._newest = float(last.removeprefix(_GOES_ON).removeprefix("start:"))

    def read_on(self, until: float) -> None:
        """Read to `until`, committing the cursor with each page."""
        position, ended = self._position, False
        while not ended:
            page = None if _too_recent(position, until) else self._page_at(position)
            with self._ledger.writing() as tx:
                if page is not None:
                    self._keep(tx, page)
                    exports.move(tx, self._ledger, self._account_id, self._name, page.cursor or position)
                    self._newest = max(self._newest, _newest(page))
                ended = page is None or page.end_of_stream or page.cursor == position or self._newest > until
                last = exports.start_position(self._newest) if ended else f"{_GOES_ON}{self._newest}"
                self._remember(tx, self._name, last)
            position = page.cursor if page is not None else position

    def read_again(self) -> None:
        """Read the run's stretch once more, from its first position to its newest change. No cursor moves."""
        _, position = self._known(self._again) or ("", self._first)
        over = self._newest == 0
        while position and not over:
            page = self._page_at(position)
            over = page.end_of_stream or page.cursor == position or _newest(page) > self._newest
            position = "" if over else page.cursor
            with self._ledger.writing() as tx:
                self._keep(tx, page)
                self._remember(tx, self._again, position)

    def forget_again(self) -> None:
        """All legs have been read again: cleared once more, the run reads from its first position."""
        with self._ledger.writing() as tx:
            self._remember(tx, self._again, self._first)

    @property
    def _again(self) -> str:
        return f"{self._name} again"

    def _known(self, leg: str) -> tuple[str, str] | None:
        return exports.stretch_of(self._ledger, self._account_id, leg, self._run.dag_id, self._run.run_id)

    def _remember(self, tx: Transaction, leg: str, last: str) -> None:
        exports.extend_stretch(tx, self._account_id, leg, self._run.dag_id, self._run.run_id, self._first, last)


def _too_recent(position: str, until: float) -> bool:
    start = exports.start_of(position)
    return start is not None and start > until


def _newest(page: ExportPage) -> float:
    """When the newest change on the page was made, as exports count time; 0.0 for an empty page."""
    return max((float(row.get("generated_timestamp") or row.get("timestamp") or 0) for row in page.rows), default=0.0)


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
    settles = ends + SETTLE - ledger.clock.time()
    if settles > SETTLE:
        raise FixFirst(
            f"The window {iso(starts)} to {iso(ends)} is not over yet.", advice="Export windows of the past only."
        )
    if settles > 0:
        # A daily run starts at the very end of its interval.
        raise TryLater(
            f"The window {iso(starts)} to {iso(ends)} has just ended; Zendesk withholds the last minute of changes.",
            wait=settles,
        )
    window = exports.window_of(ledger, account_id, TICKETS, iso(starts), iso(ends))
    if window is None or window.complete:
        window = Window(iso(starts), iso(ends), exports.start_position(starts), complete=False, ticket_count=0)
    while not window.complete:
        page = _ticket_page(client, window.position)
        inside = [row for row in page.rows if starts <= _changed(row) < ends]
        beyond = any(_changed(row) >= ends for row in page.rows)
        over = beyond or page.end_of_stream or page.cursor == window.position
        position = page.cursor or window.position
        window = Window(window.starts_at, window.ends_at, position, over, window.ticket_count + len(inside))
        with ledger.writing() as tx:
            _store_page(tx, ledger, account_id, inside, page.solved_at)
            exports.save_window(tx, ledger, account_id, TICKETS, window)
    return window


def _changed(row: Mapping[str, Any]) -> float:
    return float(row.get("generated_timestamp") or epoch_of(row["updated_at"]))


def _store_page(
    tx: Transaction, ledger: Ledger, account_id: int, rows: Iterable[Row], solved_at: Mapping[int, str]
) -> Stored:
    now = ledger.clock.time()
    return store_tickets(tx, ledger, account_id, [ticket_row(row, now, solved_at.get(row["id"])) for row in rows])


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
