"""Deliveries in any order, any number of times, with drains and exports in between: the ledger ends as Zendesk is."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from airflow_provider_qadzd.errors import Facts, FixFirst, TryLater
from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.schema import inbox, ticket, ticket_event
from airflow_provider_qadzd.ledger.store import iso
from airflow_provider_qadzd.sync.receive import accept, drain, store_tickets, ticket_row
from airflow_provider_qadzd.zendesk.webhook import SIGNATURE, TIMESTAMP, sign, verify
from airflow_provider_qadzd.zendesk.wire import NotFound
from tests.conftest import SetClock

SECRET, TICKETS = "the-signing-secret", (1, 2, 3)
REFUSED = 10**17


class Desk:
    """A Zendesk of a few tickets, as the drain asks it: `desk.tickets.show_many(ids)` and `show(id)`.

    `meanwhile` is done once, while a list is being fetched: after it was read, before it is answered.
    """

    def __init__(self, clock: SetClock) -> None:
        self.clock, self.rows, self.tickets = clock, dict[int, dict[str, Any]](), self
        self.meanwhile: Callable[[], None] | None = None
        for ticket_id in TICKETS:
            self.change(ticket_id, "open")

    def change(self, ticket_id: int, status: str) -> None:
        """A ticket changes, for all that its version tells within the same second as the change before."""
        self.clock.sleep(0.3)
        stamp = int(self.clock.time())
        row = {"id": ticket_id, "status": status, "subject": f"{ticket_id} {self.clock.time()}", "tags": []}
        self.rows[ticket_id] = {**row, "updated_at": iso(stamp), "generated_timestamp": stamp}

    def show_many(self, ids: Iterable[int]) -> list[dict[str, Any]]:
        if REFUSED in ids:
            raise FixFirst("Zendesk does not accept this call.", facts=Facts(status=400))
        found = [dict(self.rows[one]) for one in ids if one in self.rows]
        if self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            act()
        return found

    def show(self, ticket_id: int) -> dict[str, Any]:
        if ticket_id == REFUSED:
            raise FixFirst("Zendesk does not accept this call.", facts=Facts(status=400))
        if ticket_id not in self.rows:
            raise NotFound("gone", "There is no such record in Zendesk.")
        return dict(self.rows[ticket_id])


class Post:
    """Signed deliveries about the tickets of a desk, taken as the receiver takes them."""

    def __init__(self, ledger: Ledger, desk: Desk) -> None:
        self.ledger, self.desk, self.number = ledger, desk, 0
        self.account_id = identity.account_at(ledger, "https://acme.zendesk.com").account_id

    def event(self, ticket_id: int) -> tuple[bytes, str]:
        """An event-subscribed body with an id of its own, and when it was signed."""
        self.number += 1
        kind = "zen:event-type:ticket.status_changed"
        body = {"id": f"e{self.number}", "type": kind, "subject": f"zen:ticket:{ticket_id}", "detail": {}, "event": {}}
        return json.dumps(body).encode(), iso(self.desk.clock.time())

    def trigger(self, ticket_id: int) -> tuple[bytes, str]:
        """A trigger's body: two within a second are alike to the last byte, signature included."""
        body = json.dumps({"kind": "updated", "ticket_id": str(ticket_id)}).encode()
        return body, iso(int(self.desk.clock.time()))

    def deliver(self, parcel: tuple[bytes, str]) -> None:
        body, stamp = parcel
        headers = {SIGNATURE: sign(SECRET, stamp, body), TIMESTAMP: stamp}
        accept(self.ledger, self.account_id, verify(headers, body, [SECRET], self.desk.clock.time(), 1e9), body)

    def drain(self) -> None:
        drain(self.ledger, self.account_id, self.desk)  # type: ignore[arg-type]

    def export(self, page: list[dict[str, Any]], fetched_at: float) -> None:
        """A page of the export that was read at that time arrives now."""
        with self.ledger.writing() as tx:
            store_tickets(tx, self.ledger, self.account_id, [ticket_row(one, fetched_at) for one in page])

    def rows(self, table: Any) -> list[Any]:
        with self.ledger.reading() as tx:
            return list(tx.execute(select(table)).all())


def emptied(ledger: Ledger) -> None:
    """Nothing of an example before is left."""
    with ledger.writing() as tx:
        for table in ("inbox", "ticket", "ticket_event", "audit_entry", "account"):
            tx.execute(text(f"DELETE FROM qadzd_{table}"))  # noqa: S608


STEP = st.one_of(
    st.tuples(st.just("change"), st.sampled_from(TICKETS), st.sampled_from(["event", "trigger"])),
    st.tuples(st.just("vanish"), st.sampled_from(TICKETS), st.sampled_from(["event", "trigger"])),
    st.tuples(st.just("deliver"), st.integers(0, 30), st.just("")),
    st.tuples(st.just("read a page"), st.just(0), st.just("")),
    st.tuples(st.just("store the page"), st.just(0), st.just("")),
    st.tuples(st.just("drain"), st.just(0), st.just("")),
    st.tuples(st.just("change while drained"), st.sampled_from(TICKETS), st.sampled_from(["event", "trigger"])),
)
QUICK = settings(
    max_examples=40, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@QUICK
@given(steps=st.lists(STEP, max_size=25))
def test_the_ledger_ends_as_zendesk_is(ledger: Ledger, clock: SetClock, steps: list[tuple[str, int, str]]) -> None:
    """Whatever is changed, delivered late, twice or out of order, drained and exported: each told ticket is as it is.

    Every event has one ticket event, however often it came; nothing stays pending; nothing older is written over.
    """
    emptied(ledger)
    desk = Desk(clock)
    post, parcels, page = Post(ledger, desk), list[tuple[bytes, str]](), (list[dict[str, Any]](), 0.0)

    def told(ticket_id: int, route: str) -> None:
        parcels.append(post.event(ticket_id) if route == "event" else post.trigger(ticket_id))

    def change(ticket_id: int, route: str) -> None:
        desk.change(ticket_id, "solved")
        told(ticket_id, route)
        post.deliver(parcels[-1])

    for step, number, route in steps:
        if step == "change":
            desk.change(number, "solved")
            told(number, route)
        elif step == "vanish":
            desk.rows.pop(number, None)
            told(number, route)
        elif step == "deliver" and parcels:
            post.deliver(parcels[number % len(parcels)])
        elif step == "read a page":
            page = ([dict(row) for row in desk.rows.values()], clock.time())
        elif step == "store the page":
            post.export(*page)
        elif step == "drain":
            post.drain()
        elif step == "change while drained":
            desk.meanwhile = lambda number=number, route=route: change(number, route)  # type: ignore[misc]
    for parcel in reversed(parcels):
        post.deliver(parcel)
    clock.sleep(0.1)
    desk.meanwhile = None
    post.drain()
    stored = {row.ticket_id: row for row in post.rows(ticket)}
    for ticket_id in {row.ticket_id for row in post.rows(inbox)}:
        now = desk.rows.get(ticket_id)
        found = (stored[ticket_id].gone, stored[ticket_id].subject if now else None)
        assert found == ((False, now["subject"]) if now else (True, None))
    assert {row.inbox_state for row in post.rows(inbox)} <= {"drained"}
    with_id = Counter(row.delivery_id for row in post.rows(inbox) if row.payload_id)
    events = Counter(row.delivery_id for row in post.rows(ticket_event) if row.delivery_id in with_id)
    assert events == with_id


def test_a_change_that_comes_while_its_ticket_is_fetched_is_not_missed(ledger: Ledger, clock: SetClock) -> None:
    """By the trigger route two changes within a second look alike; the second arrives after the ticket was read."""
    desk = Desk(clock)
    post = Post(ledger, desk)
    clock.now = float(int(clock.now)) + 1
    post.deliver(post.trigger(1))

    def again() -> None:
        desk.change(1, "solved")
        post.deliver(post.trigger(1))

    desk.meanwhile = again
    post.drain()
    (row,) = post.rows(ticket)
    assert row.status == "solved"


@pytest.mark.parametrize("first", [True, False], ids=["before the others", "after the others"])
def test_a_number_that_zendesk_refuses_holds_up_no_other(ledger: Ledger, clock: SetClock, first: bool) -> None:
    """A signed delivery with an impossible ticket number is set aside with the reason; all others are drained."""
    post = Post(ledger, Desk(clock))
    numbers = [REFUSED, 1, 2] if first else [1, 2, REFUSED]
    for number in numbers:
        post.deliver(post.event(number))
    post.drain()
    states = {row.ticket_id: (row.inbox_state, row.reason) for row in post.rows(inbox)}
    aside = ("aside", "Zendesk does not accept the ticket's number")
    assert states == {REFUSED: aside, 1: ("drained", ""), 2: ("drained", "")}


def test_a_ticket_that_changes_often_is_fetched_once(ledger: Ledger, clock: SetClock) -> None:
    """Five hundred deliveries about three tickets are one call, and five hundred events."""
    desk = Desk(clock)
    post, calls = Post(ledger, desk), list[int]()
    for number in range(500):
        post.deliver(post.event(number % 3 + 1))
    desk.meanwhile = lambda: calls.append(1)
    post.drain()
    assert desk.meanwhile is None
    assert calls == [1]
    assert len(post.rows(ticket_event)) == 500


def test_credentials_that_fail_are_no_poison(ledger: Ledger, clock: SetClock) -> None:
    """Where Zendesk refuses the caller, nothing is set aside: the deliveries wait for the credentials."""

    class Shut(Desk):
        def show_many(self, ids: Iterable[int]) -> list[dict[str, Any]]:
            raise FixFirst("Zendesk does not accept the credentials.", facts=Facts(status=401))

    post = Post(ledger, Shut(clock))
    post.deliver(post.event(1))
    with pytest.raises(FixFirst, match="credentials"):
        post.drain()
    assert [row.inbox_state for row in post.rows(inbox)] == ["pending"]


def test_a_locked_ledger_loses_nothing(ledger_path: Path, clock: SetClock) -> None:
    """Locked after the tickets were fetched, the drain is put off; the next one stores each once."""
    ledger = Ledger(f"sqlite:///{ledger_path}?timeout=0.2", clock)
    desk = Desk(clock)
    post = Post(ledger, desk)
    post.deliver(post.event(1))
    with closing(sqlite3.connect(ledger_path, isolation_level=None)) as other:
        desk.meanwhile = lambda: other.execute("BEGIN IMMEDIATE")  # type: ignore[assignment, return-value]
        with pytest.raises(TryLater, match="locked or away"):
            post.drain()
        other.execute("ROLLBACK")
    post.drain()
    assert [row.kind for row in post.rows(ticket_event)] == ["updated"]
    ledger.engine.dispose()
