"""Whatever pages an export is cut into, however rows repeat, wherever it stops: the ledger ends the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger import Ledger, exports, identity
from airflow_provider_qadzd.ledger.schema import export_cursor, export_run, ticket, ticket_event, ticket_history
from airflow_provider_qadzd.ledger.store import iso
from airflow_provider_qadzd.sync.export import EVENTS, TICKETS, Run, export_live
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import ExportPage

START = 1_700_000_000
STATES = ("new", "open", "pending", "solved", "closed", "deleted")

changes = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(STATES)), min_size=1, max_size=14)
"""What was done, in this order, a second apart: which ticket came into which state."""


class Feed:
    """Zendesk's two exports over what was done, in pages of any size; every `fails`-th page breaks off.

    At a border the last `repeats` rows come again, as they do. A ticket may be exported in a state that it has left by
    now: pages are drawn up before they are fetched.
    """

    def __init__(self, done: Sequence[tuple[int, str]], size: int, repeats: int, fails: int) -> None:
        self.exports = self
        self.rows = [
            {
                "id": ticket_id, "status": status, "subject": f"{number}", "generated_timestamp": START + number,
                "updated_at": iso(START + number), "created_at": iso(START),
            }
            for number, (ticket_id, status) in enumerate(done)
        ]  # fmt: skip
        self.size, self.repeats, self.fails, self.asked = size, repeats, fails, 0

    def tickets(self, cursor: str | None = None, start_time: float | None = None) -> ExportPage:
        """The page behind a cursor, which is the number of rows before it."""
        self._maybe_break()
        first = int(cursor or 0)
        rows = self.rows[max(first - self.repeats, 0) : first + self.size]
        end = min(first + self.size, len(self.rows))
        return ExportPage(tuple(rows), str(end), end == len(self.rows))

    def ticket_events(self, start_time: float) -> ExportPage:
        """The entries from a second on: whole seconds, so that the last one comes again."""
        self._maybe_break()
        rows = [
            {"id": number, "ticket_id": row["id"], "timestamp": START + number, "child_events": [row["status"]]}
            for number, row in enumerate(self.rows)
            if START + number >= start_time
        ][: self.size + 1]
        over = not rows or rows[-1]["id"] == len(self.rows) - 1
        return ExportPage(tuple(rows), str(rows[-1]["timestamp"] if rows else int(start_time)), over)

    def _maybe_break(self) -> None:
        self.asked += 1
        if self.fails and self.asked % self.fails == 0:
            raise TryLater("The answer from Zendesk got lost.", wait=2.0)


@pytest.fixture(scope="module")
def ledger() -> Iterator[tuple[Ledger, int]]:
    """A ledger that all examples share."""
    with tempfile.TemporaryDirectory() as folder:
        found = Ledger(f"sqlite:///{Path(folder) / 'ledger.db'}").opened()
        yield found, identity.account_at(found, "https://acme.zendesk.com").account_id


def exported(ledger: Ledger, account_id: int, feed: Feed, runs: int) -> tuple[dict[int, Any], list[Any], list[Any]]:
    """Tickets, history and events after that many runs over the feed, each tried to its end, into an empty ledger."""
    with ledger.writing() as tx:
        for table in (ticket, ticket_event, ticket_history, export_cursor, export_run):
            tx.execute(table.delete())
    for leg in (TICKETS, EVENTS):
        exports.start_once(ledger, account_id, leg, exports.start_position(START))
    client = cast("ZendeskClient", feed)
    for run in range(runs):
        for _ in range(100):
            try:
                export_live(ledger, account_id, client, Run("export", str(run // 2)))  # every second one is cleared
                break
            except TryLater:
                continue
    with ledger.reading() as tx:
        rows = {row.ticket_id: (row.status, row.subject, row.gone) for row in tx.execute(ticket.select())}
        history = [(row.event_id, row.ticket_id) for row in tx.execute(ticket_history.select())]
        events = [(row.ticket_id, row.status) for row in tx.execute(ticket_event.select())]
    return rows, history, events


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    done=changes, size=st.integers(1, 5), repeats=st.integers(0, 3), fails=st.sampled_from([0, 2, 3, 5]),
    runs=st.integers(1, 3),
)  # fmt: skip
def test_pages_repeats_and_breaks_do_not_matter(
    ledger: tuple[Ledger, int], done: list[tuple[int, str]], size: int, repeats: int, fails: int, runs: int
) -> None:
    """Each ticket ends in its last state, each entry of history is there once, and no state is told twice."""
    rows, history, events = exported(*ledger, Feed(done, size, repeats, fails), runs)
    last = {ticket_id: (status, str(number), status == "deleted") for number, (ticket_id, status) in enumerate(done)}
    assert rows == last
    assert history == [(number, ticket_id) for number, (ticket_id, _) in enumerate(done)]
    # A page holds only the newest of a ticket's states, so some are passed over; the last one is told, and told last.
    told = {ticket_id: [status for one, status in events if one == ticket_id] for ticket_id in last}
    passed = {ticket_id: [status for one, status in done if one == ticket_id] for ticket_id in last}
    for ticket_id, statuses in told.items():
        assert statuses[-1] == passed[ticket_id][-1]
        assert len(statuses) <= len(passed[ticket_id])
