"""Deliveries, tickets, numbered events, and what each sensor has seen."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from airflow_provider_qadzd.ledger import Ledger, matching, sensing, tickets
from airflow_provider_qadzd.ledger.schema import audit_entry, inbox, ticket_event, ticket_history
from airflow_provider_qadzd.ledger.sensing import Wanted
from airflow_provider_qadzd.records import Owner
from tests.conftest import SetClock
from tests.ledger.rows import a_flow, an_end, settle


def a_delivery(signature: str, payload_id: str | None = None, account_id: int = 1, **more: Any) -> dict[str, Any]:
    """An accepted delivery about ticket 5."""
    row = {"body": b"{}", "kind": "updated", "ticket_id": 5, "occurred_at": "2026-01-01T00:00:00Z"}
    return {**row, "account_id": account_id, "payload_id": payload_id, "signature": signature, **more}


def drain(ledger: Ledger, account_id: int = 1, state: str = "drained") -> int:
    """End all pending deliveries; how many there were."""
    pending = tickets.pending_deliveries(ledger, account_id, 100)
    with ledger.writing() as tx:
        tickets.end_deliveries(tx, ledger, pending, state, "said why")
    return len(pending)


def a_ticket(ticket_id: int = 5, **more: Any) -> dict[str, Any]:
    """A ticket's row, matched to customer C1 of flow 1."""
    row = {
        "ticket_id": ticket_id, "version_epoch": 1.0, "fetched_epoch": 2.0, "status": "open", "gone": False,
        "updated_at": "2026-01-01T00:00:00Z", "tags": ["a"], "custom_fields": [], "flow_id": 1, "customer_key": "C1",
        "match_reason": "organization",
    }  # fmt: skip
    return {**row, **more}


def add(ledger: Ledger, account_id: int, *rows: Mapping[str, Any], kind: str = "updated") -> None:
    """One event about each of these tickets."""
    with ledger.writing() as tx:
        tickets.add_events(tx, ledger, account_id, [tickets.event_of(row, kind, "webhook") for row in rows])


# -- deliveries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("again", "drained", "accepted"),
    [
        pytest.param(("s1", "p1"), False, False, id="the same payload id, still pending"),
        pytest.param(("s2", "p1"), False, False, id="the same payload id, signed anew"),
        pytest.param(("s2", "p1"), True, False, id="the same payload id, drained"),
        pytest.param(("s1", "p1"), True, False, id="the same payload id and signature, drained"),
        pytest.param(("s2", "p2"), False, True, id="another payload"),
    ],
)
def test_a_repeated_payload_is_dropped(ledger: Ledger, again: tuple[str, str], drained: bool, accepted: bool) -> None:
    """A delivery whose signed id was seen is never stored twice, drained or not."""
    assert tickets.store_delivery(ledger, a_delivery("s1", "p1"))
    if drained:
        drain(ledger)
    assert tickets.store_delivery(ledger, a_delivery(*again)) is accepted
    assert drain(ledger) == (not drained) + accepted


def test_a_repeated_signature_without_an_id_reopens_what_was_drained(ledger: Ledger, clock: SetClock) -> None:
    """While it is pending it is one delivery; once drained the repeat may be news; set aside it stays aside."""
    assert tickets.store_delivery(ledger, a_delivery("s1"))
    assert tickets.store_delivery(ledger, a_delivery("s1"))
    assert drain(ledger) == 1
    clock.sleep(60)
    assert tickets.store_delivery(ledger, a_delivery("s1"))
    (row,) = tickets.pending_deliveries(ledger, 1, 100)
    assert (row.received_at, row.drained_at, row.heard) == (ledger.now(), None, 3)
    assert drain(ledger, state="aside") == 1
    assert not tickets.store_delivery(ledger, a_delivery("s1"))


def test_what_comes_again_while_it_is_fetched_stays_pending(ledger: Ledger) -> None:
    """Two changes within a second have one signature: the second may come when the ticket was fetched for the first."""
    for signature in ("s1", "s2"):
        tickets.store_delivery(ledger, a_delivery(signature))
    read = tickets.pending_deliveries(ledger, 1, 100)
    tickets.store_delivery(ledger, a_delivery("s1"))
    with ledger.writing() as tx:
        assert tickets.end_deliveries(tx, ledger, read, "drained") == {read[1].delivery_id}
    assert [row.signature for row in tickets.pending_deliveries(ledger, 1, 100)] == ["s1"]
    assert drain(ledger) == 1


def test_a_delivery_ends_once(ledger: Ledger) -> None:
    """Of two drains that have read the same deliveries, the later one ends none of them."""
    tickets.store_delivery(ledger, a_delivery("s1"))
    read = tickets.pending_deliveries(ledger, 1, 100)
    for expected in ({read[0].delivery_id}, set()):
        with ledger.writing() as tx:
            assert tickets.end_deliveries(tx, ledger, read, "drained") == expected


def test_many_are_committed_at_once(ledger: Ledger) -> None:
    """A batch tells of each whether it is news, repeats within the batch too, and either all are there or none."""
    batch = [a_delivery("s1", "p1"), a_delivery("s2"), a_delivery("s3", "p1"), a_delivery("s2")]
    assert tickets.store_deliveries(ledger, batch) == [True, True, False, True]
    with pytest.raises(Exception, match=r"(?i)null"):
        tickets.store_deliveries(ledger, [a_delivery("s9"), a_delivery("s8", kind=None)])
    assert [row.signature for row in tickets.pending_deliveries(ledger, 1, 100)] == ["s1", "s2"]


def test_a_drained_delivery_keeps_no_body(ledger: Ledger) -> None:
    """What remains is its id, kind, ticket, state and reason; pending ones come oldest first, some at a time."""
    for signature in ("s1", "s2", "s3"):
        tickets.store_delivery(ledger, a_delivery(signature))
    assert [row.signature for row in tickets.pending_deliveries(ledger, 1, 2)] == ["s1", "s2"]
    drain(ledger)
    with ledger.reading() as tx:
        row = tx.execute(select(inbox).where(inbox.c.signature == "s1")).one()
    assert (row.body, row.kind, row.ticket_id, row.inbox_state) == (None, "updated", 5, "drained")
    assert (row.reason, row.drained_at) == ("said why", ledger.now())


@pytest.mark.parametrize("payload_id", ["p1", None], ids=["with a signed id", "by the trigger route"])
def test_two_receivers_take_one_delivery_at_once(open_ledger: Callable[[], Ledger], payload_id: str | None) -> None:
    """Of receivers that hold the same delivery at the same moment, one stores it and none fails; all are counted."""
    ledgers = [open_ledger() for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        for n in range(10):
            row = a_delivery(f"s{n}", payload_id and f"{payload_id}-{n}")
            news = sum(threads.map(lambda one, row=row: tickets.store_delivery(one, row), ledgers))
            assert news == (1 if payload_id else 6)
    assert {row.heard for row in tickets.pending_deliveries(ledgers[0], 1, 100)} == {1 if payload_id else 6}
    assert drain(ledgers[0]) == 10


# -- tickets -----------------------------------------------------------------------------------------------------------


def test_tickets_are_kept_by_account_and_id(ledger: Ledger) -> None:
    """A row replaces the one before it; more ids than one query's list are all found."""
    with ledger.writing() as tx:
        tickets.write_tickets(tx, 1, [a_ticket(n) for n in range(1200)])
        tickets.write_tickets(tx, 2, [a_ticket(5, status="closed")])
        tickets.write_tickets(tx, 1, [a_ticket(5, status="solved", tags=["é"])])
        known = tickets.known_tickets(tx, 1, range(1200))
        assert len(known) == 1200
        assert (known[5]["status"], known[5]["tags"], known[6]["status"]) == ("solved", ["é"], "open")
        assert tickets.known_tickets(tx, 1, []) == {}


@pytest.mark.parametrize("reads", ["known_tickets", "moved_matches"])
def test_who_reads_tickets_to_replace_them_is_alone(open_ledger: Callable[[], Ledger], reads: str) -> None:
    """A second writer waits at its reading and sees what the first has written: nothing goes over a newer state."""

    def status(ledger: Ledger) -> str:
        with ledger.writing() as tx:
            if reads == "known_tickets":
                return str(tickets.known_tickets(tx, account_id, [5])[5]["status"])
            return str(matching.moved_matches(tx, account_id, 0, 9)[1][5]["status"])

    first, second = open_ledger(), open_ledger()
    account_id = a_flow(first).account_id
    with first.writing() as tx:
        tickets.write_tickets(tx, account_id, [a_ticket(5, status="open")])
    with ThreadPoolExecutor(1) as threads:
        with first.writing() as tx:
            tickets.known_tickets(tx, account_id, [5])
            seen = threads.submit(status, second)
            time.sleep(0.2)
            tickets.write_tickets(tx, account_id, [a_ticket(5, status="pending")])
        assert seen.result(timeout=30) == "pending"


def test_which_tickets_are_matched_again(ledger: Ledger) -> None:
    """Open ones, and closed ones without a customer; neither those that are gone nor closed ones that have one."""
    rows = [
        a_ticket(1), a_ticket(2, status="closed"), a_ticket(3, status="closed", customer_key=None),
        a_ticket(4, customer_key=None), a_ticket(5, gone=True, customer_key=None), a_ticket(6),
    ]  # fmt: skip
    with ledger.writing() as tx:
        tickets.write_tickets(tx, 1, rows)
        assert list(matching.moved_matches(tx, 1, 0, 9)[1]) == [1, 3, 4, 6]
        assert list(matching.moved_matches(tx, 1, 4, 9)[1]) == [6]


def test_who_owns_a_ticket(ledger: Ledger) -> None:
    """Zendesk ids lead to linked keys, contacts to all customers they are members of, in key order."""
    flow = a_flow(ledger)
    settle(
        ledger, flow, an_end("organization", "C1", 7), an_end("user", "P1", 7),
        an_end("membership", "P1", 71, other="C2"), an_end("membership", "P1", None, other="C1"),
    )  # fmt: skip
    with ledger.reading() as tx:
        assert matching.linked_owners(tx, flow.account_id, "organization", {7, 8, None}) == {7: Owner(1, "C1")}
        requesters = matching.linked_owners(tx, flow.account_id, "user", {7})
        assert requesters == {7: Owner(1, "P1")}
        assert matching.customers_of(tx, requesters) == {(1, "P1"): [Owner(1, "C1"), Owner(1, "C2")]}
        assert matching.customers_of(tx, {}) == {}


def test_a_moved_customer_is_audited(ledger: Ledger) -> None:
    """Getting, changing and losing a customer is told; keeping it is not."""
    known = {n: a_ticket(n) for n in (2, 3, 4)}
    written = {
        1: a_ticket(1), 2: a_ticket(2), 3: a_ticket(3, customer_key="C2"),
        4: a_ticket(4, customer_key=None, flow_id=None, match_reason="ambiguous"),
    }  # fmt: skip
    with ledger.writing() as tx:
        tickets.audit_moves(tx, ledger, 1, written, known)
        a = audit_entry.c
        told = tx.execute(select(a.record_key, a.event, a.detail).order_by(a.audit_id)).all()
    assert [(key, event, detail["before"], detail["after"]) for key, event, detail in told] == [
        ("1", "matched", None, "C1"), ("3", "matched", "C1", "C2"), ("4", "unmatched", "C1", None)
    ]  # fmt: skip


def test_history_is_kept_once(ledger: Ledger) -> None:
    """An event that is exported again, even on the same page, replaces itself."""
    row = {"event_id": 1, "ticket_id": 5, "occurred_at": "2026-01-01T00:00:00Z", "updater_id": None, "children": []}
    with ledger.writing() as tx:
        tickets.store_history(tx, 1, [row, row])
        tickets.store_history(tx, 1, [{**row, "children": [{"id": 2}]}])
        (stored,) = tx.execute(select(ticket_history)).all()
    assert stored.children == [{"id": 2}]


# -- events and the sensor ---------------------------------------------------------------------------------------------


def seen(ledger: Ledger, account_id: int, after: int = 0, filters: Wanted = Wanted(), **more: Any) -> list[int]:  # noqa: B008 - frozen
    """The numbers of the events that a sensor would read."""
    with ledger.reading() as tx:
        return [row.seq for row in sensing.events_after(tx, account_id, after, filters, **more)]


def test_events_are_numbered_without_gaps_by_many_writers(open_ledger: Callable[[], Ledger]) -> None:
    """Numbers are dense, and whoever has seen number n has seen every event below it."""
    ledgers = [open_ledger() for _ in range(4)]
    account_id = a_flow(ledgers[0]).account_id
    watcher = open_ledger()
    unseen: list[int] = []

    def write(ledger: Ledger) -> None:
        for _ in range(15):
            add(ledger, account_id, a_ticket(1), a_ticket(2))

    def watch() -> None:
        while len(unseen) < 120:
            unseen[:] = seen(watcher, account_id)
            assert unseen == list(range(1, len(unseen) + 1))

    with ThreadPoolExecutor(5) as threads:
        watching = threads.submit(watch)
        list(threads.map(write, ledgers))
        watching.result(timeout=30)
    assert unseen == list(range(1, 121))


def test_a_failed_transaction_takes_no_number(ledger: Ledger) -> None:
    """What is rolled back leaves no gap."""
    account_id = a_flow(ledger).account_id
    with contextlib.suppress(ZeroDivisionError), ledger.writing() as tx:
        tickets.add_events(tx, ledger, account_id, [tickets.event_of(a_ticket(), "updated", "webhook")])
        raise ZeroDivisionError
    add(ledger, account_id)
    add(ledger, account_id, a_ticket())
    assert seen(ledger, account_id) == [1]


def test_which_events_a_sensor_reads(ledger: Ledger) -> None:
    """Matched ones in their order, between two numbers, of the kinds, customers and statuses asked for."""
    account_id = a_flow(ledger).account_id
    add(ledger, account_id, a_ticket(1), kind="created")
    add(
        ledger, account_id, a_ticket(2, customer_key="C2"), a_ticket(3, customer_key=None), a_ticket(4, status="solved")
    )

    def seqs(after: int = 0, **asked: Any) -> list[int]:
        filters = Wanted(**{name: asked.pop(name) for name in ("kinds", "customers", "statuses") if name in asked})
        return seen(ledger, account_id, after, filters, **asked)

    assert seqs() == [1, 2, 4]
    assert (seqs(1), seqs(upto=2), seqs(limit=1)) == ([2, 4], [1, 2], [1])
    assert (seqs(kinds=("created",)), seqs(customers=("C2",)), seqs(statuses=("solved", "new"))) == ([1], [2], [4])
    with ledger.reading() as tx:
        event = tx.execute(select(ticket_event).where(ticket_event.c.seq == 1)).one()
    assert (event.occurred_at, event.recorded_at, event.status) == ("2026-01-01T00:00:00Z", ledger.now(), "open")


def test_each_sensor_has_stretches_of_its_own(ledger: Ledger) -> None:
    """A new sensor starts now, the next run where the last one ended; a cleared run finds its own stretch again."""
    account_id = a_flow(ledger).account_id
    add(ledger, account_id, a_ticket(1), a_ticket(2))

    def claim(run: str, task: str = "wait") -> tuple[int, int, int]:
        stretch, rows = sensing.claim_stretch(ledger, account_id, "dag", task, run, Wanted())
        return stretch.from_seq, stretch.to_seq, len(rows)

    assert claim("run 1") == (2, 2, 0)
    add(ledger, account_id, a_ticket(3))
    assert (claim("run 1"), claim("run 2")) == ((2, 3, 1), (3, 3, 0))
    add(ledger, account_id, a_ticket(4), a_ticket(5))
    assert (claim("run 2"), claim("run 1"), claim("run 3")) == ((3, 5, 2), (2, 3, 1), (5, 5, 0))
    assert claim("run 1", "another") == (5, 5, 0)


def test_runs_that_wait_at_once_share_the_events_out(open_ledger: Callable[[], Ledger]) -> None:
    """However many runs of one sensor claim at the same moment, each event goes to one of them."""
    ledgers = [open_ledger() for _ in range(4)]
    account_id = a_flow(ledgers[0]).account_id
    where = (account_id, "dag", "wait")
    for run in range(4):
        sensing.claim_stretch(ledgers[0], *where, str(run), Wanted())
    returned: list[int] = []
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            add(ledgers[0], account_id, a_ticket(1), a_ticket(2))
            runs = [str(len(returned) * 10 + n) for n in range(4)]
            found = threads.map(lambda ledger, run: sensing.claim_stretch(ledger, *where, run, Wanted()), ledgers, runs)
            returned += [row.seq for _, rows in found for row in rows]
    assert sorted(returned) == list(range(1, 11))
