"""The inward journey's memory: deliveries, tickets and their QAD customers, events for the sensor, history.

A ticket's row is only ever replaced by one that is not older; every change of it, and every drained delivery, becomes
one numbered ticket event in the same transaction. Numbers are given under the account row's lock, so that a reader who
has seen number n has seen everything below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select, update

from airflow_provider_qadzd.ledger.bulk import among, insert_rows, upsert
from airflow_provider_qadzd.ledger.schema import (
    account,
    audit_entry,
    inbox,
    ticket,
    ticket_event,
    ticket_history,
)
from airflow_provider_qadzd.ledger.store import Ledger, chunks, insert_into
from airflow_provider_qadzd.ledger.tombstones import Marks, marks_in

DeliveryRow = Row[Any]
_IDS = 500
_PAGE = 1000


# -- deliveries --------------------------------------------------------------------------------------------------------


def store_delivery(ledger: Ledger, row: Mapping[str, Any]) -> bool:
    """Commit one accepted delivery; False if it is a repeat that says nothing new."""
    return store_deliveries(ledger, [row])[0]


def store_deliveries(ledger: Ledger, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Commit many in one transaction, all or none: whether each was news.

    A repeated signed payload id is dropped. A repeated signature without such an id is counted and opens its delivery
    again: the trigger route signs no id, and two changes of a ticket within a second look the same. It counts also
    while the first is still pending, for a drain may have fetched the ticket between the two.
    """
    pending = {"received_at": ledger.now(), "inbox_state": "pending"}
    with ledger.writing() as tx:
        # Two receivers may hold the same delivery: the two unique indexes tell which one of them is first.
        insert = insert_into(tx, inbox).on_conflict_do_nothing().returning(inbox.c.account_id, inbox.c.signature)
        new = {tuple(row) for row in tx.execute(insert, [{**row, **pending} for row in rows])}
        return [_is_first(row, new) or _heard_again(tx, row, pending) for row in rows]


def _is_first(row: Mapping[str, Any], new: set[tuple[Any, ...]]) -> bool:
    """Whether this row is the one of its signature that was inserted: of several alike in a group, the first."""
    key = (row["account_id"], row["signature"])
    first = key in new
    new.discard(key)
    return first


def _heard_again(tx: Connection, row: Mapping[str, Any], pending: Mapping[str, Any]) -> bool:
    if row["payload_id"] is not None:
        return False
    again = and_(
        inbox.c.account_id == row["account_id"], inbox.c.signature == row["signature"],
        inbox.c.payload_id.is_(None), inbox.c.inbox_state != "aside",
    )  # fmt: skip
    reopened = update(inbox).where(again).values(drained_at=None, heard=inbox.c.heard + 1, **pending)
    return tx.execute(reopened).rowcount == 1


def end_test_delivery(ledger: Ledger, account_id: int, payload_id: str) -> bool:
    """Whether the delivery that onboarding had Zendesk send has come; nobody needs to drain it."""
    its = and_(inbox.c.account_id == account_id, inbox.c.payload_id == payload_id)
    values = {"inbox_state": "drained", "reason": "onboarding's test", "drained_at": ledger.now(), "body": None}
    with ledger.writing() as tx:
        return tx.execute(update(inbox).where(its).values(values)).rowcount == 1


def newest_delivery(ledger: Ledger, account_id: int) -> int:
    """The number of the delivery that came last, 0 before the first."""
    with ledger.reading() as tx:
        newest = select(func.max(inbox.c.delivery_id)).where(inbox.c.account_id == account_id)
        return tx.execute(newest).scalar_one() or 0


def pending_deliveries(ledger: Ledger, account_id: int, limit: int) -> list[DeliveryRow]:
    """The oldest deliveries still to be drained."""
    with ledger.reading() as tx:
        return list(
            tx.execute(
                select(inbox)
                .where(inbox.c.account_id == account_id, inbox.c.inbox_state == "pending")
                .order_by(inbox.c.delivery_id)
                .limit(limit)
            ).all()
        )


def oldest_pending(ledger: Ledger, account_id: int) -> int | None:
    """The number of the oldest delivery still to be drained; None if there is none."""
    asked = select(func.min(inbox.c.delivery_id)).where(
        inbox.c.account_id == account_id, inbox.c.inbox_state == "pending"
    )
    with ledger.reading() as tx:
        return tx.execute(asked).scalar_one()  # type: ignore[no-any-return]


def told_of(tx: Connection, account_id: int, ticket_ids: Sequence[int]) -> set[int]:
    """Which of these tickets a delivery names that is still to be drained."""
    pending = (inbox.c.account_id == account_id, inbox.c.inbox_state == "pending")
    asked = select(inbox.c.ticket_id).where(*pending, among(tx, inbox.c.ticket_id, ticket_ids))
    return set(tx.execute(asked).scalars())


def end_deliveries(
    tx: Connection, ledger: Ledger, rows: Iterable[DeliveryRow], state: str, reason: str = ""
) -> set[int]:  # fmt: skip
    """These deliveries are drained, and nothing of their bodies is kept; or set aside, and may be read again.

    The numbers of those that ended so. One that came again since its row was read stays pending, for what it tells of
    may be later than what was fetched; one that another drain has ended is not ended twice.
    """
    ended: dict[str, Any] = {"inbox_state": state, "reason": reason, "drained_at": ledger.now()}
    if state != "aside":
        ended["body"] = None
    numbers = set[int]()
    for heard, those in groupby(sorted(rows, key=lambda row: row.heard), key=lambda row: row.heard):
        as_read = and_(
            inbox.c.delivery_id.in_([row.delivery_id for row in those]), inbox.c.heard == heard,
            inbox.c.inbox_state == "pending",
        )  # fmt: skip
        numbers.update(tx.execute(update(inbox).where(as_read).values(ended).returning(inbox.c.delivery_id)).scalars())
    return numbers


# -- tickets -----------------------------------------------------------------------------------------------------------


def lock(tx: Connection, account_id: int) -> None:
    """Whoever reads an account's tickets to replace them is alone until the transaction ends.

    SQLite has one writer anyhow; on PostgreSQL an older state could otherwise be written over a newer one.
    """
    tx.execute(select(account.c.account_id).where(account.c.account_id == account_id).with_for_update())


def known_tickets(tx: Connection, account_id: int, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """The stored rows of these tickets, by id, which nobody else changes until this transaction ends."""
    lock(tx, account_id)
    asked = select(ticket).where(ticket.c.account_id == account_id, among(tx, ticket.c.ticket_id, ids))
    return {row.ticket_id: row._asdict() for row in tx.execute(asked)}


COLUMNS = {
    "ticket_id": "id", "version_epoch": "seconds", "status": "text", "gone": "flag", "subject": "text",
    "priority": "text", "ticket_type": "text", "external_id": "text", "requester_id": "id", "organization_id": "id",
    "assignee_id": "id", "group_id": "id", "created_at": "text", "updated_at": "text", "solved_at": "text",
    "tags": "texts", "custom_fields": "json", "flow_id": "id", "customer_key": "text", "match_reason": "text",
    "match_detail": "text",
}  # fmt: skip
"""What is told of a ticket outside the ledger, and of which kind each column is."""


def changed_between(ledger: Ledger, account_id: int, starts: float, ends: float) -> Iterator[list[dict[str, Any]]]:
    """The tickets whose latest known change lies in [starts, ends) (Unix seconds), in pages, by their ids."""
    c, after = ticket.c, -1
    asked = select(*(c[name] for name in COLUMNS)).where(
        c.account_id == account_id, c.version_epoch >= starts, c.version_epoch < ends
    )
    while True:
        with ledger.reading() as tx:
            page = tx.execute(asked.where(c.ticket_id > after).order_by(c.ticket_id).limit(_PAGE)).all()
        if not page:
            return
        yield [row._asdict() for row in page]
        after = page[-1].ticket_id


REDACTED: Mapping[str, Any] = {"subject": "", "external_id": "", "tags": [], "custom_fields": []}
"""What a ticket of somebody forgotten is stored with."""


def without_forgotten(
    tx: Connection, account_id: int, rows: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:  # fmt: skip
    """These rows; those whose requester or organization was forgotten say no more than that there is such a ticket."""
    marks, kept = marks_in(tx), list[Mapping[str, Any]]()
    if not marks:
        return list(rows)
    about: set[int] = set()
    for row in rows:
        if _is_forgotten(marks, account_id, row):
            about.add(row["ticket_id"])
            kept.append({**row, **REDACTED})
        else:
            kept.append(row)
    for some in chunks(sorted(about), _IDS):
        its = (ticket_history.c.account_id == account_id, ticket_history.c.ticket_id.in_(some))
        tx.execute(update(ticket_history).where(*its).values(children=[]))
    return kept


def _is_forgotten(marks: Marks, account_id: int, row: Mapping[str, Any]) -> bool:
    return marks.has_zendesk_id(account_id, "user", row["requester_id"]) or marks.has_zendesk_id(
        account_id, "organization", row["organization_id"]
    )


def write_tickets(tx: Connection, account_id: int, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace these tickets' rows."""
    upsert(tx, ticket, [{"account_id": account_id, **row} for row in rows])


def audit_moves(
    tx: Connection, ledger: Ledger, account_id: int, written: Mapping[int, Mapping[str, Any]],
    known: Mapping[int, Mapping[str, Any]],
) -> None:  # fmt: skip
    """Tell which tickets got, lost or changed their customer."""
    entries, now = [], ledger.now()
    for ticket_id, row in written.items():
        before = known.get(ticket_id, {}).get("customer_key")
        if row["customer_key"] != before:
            entries.append(
                {
                    "account_id": account_id, "flow_id": row["flow_id"], "kind": "ticket",
                    "record_key": str(ticket_id), "event": "matched" if row["customer_key"] else "unmatched",
                    "detail": {"before": before, "after": row["customer_key"], "reason": row["match_reason"]},
                    "happened_at": now,
                }
            )  # fmt: skip
    insert_rows(tx, audit_entry, entries)


# -- events ------------------------------------------------------------------------------------------------------------


def event_of(
    row: Mapping[str, Any], kind: str, found_by: str, occurred_at: str = "", delivery_id: int | None = None
) -> dict[str, Any]:
    """A ticket event, not yet numbered, about a ticket's row as it stands."""
    return {
        "ticket_id": row["ticket_id"], "kind": kind, "status": row["status"], "found_by": found_by,
        "delivery_id": delivery_id, "flow_id": row["flow_id"], "customer_key": row["customer_key"],
        "occurred_at": occurred_at or row["updated_at"],
    }  # fmt: skip


def add_events(tx: Connection, ledger: Ledger, account_id: int, events: Sequence[Mapping[str, Any]]) -> None:
    """Number these events and store them, under the account row's lock."""
    if not events:
        return
    last = tx.execute(
        update(account)
        .where(account.c.account_id == account_id)
        .values(event_seq=account.c.event_seq + len(events))
        .returning(account.c.event_seq)
    ).scalar_one()
    now = ledger.now()
    first = last - len(events) + 1
    numbered = [
        {"account_id": account_id, "recorded_at": now, **event, "seq": first + n} for n, event in enumerate(events)
    ]
    insert_rows(tx, ticket_event, numbered)


def store_history(tx: Connection, account_id: int, rows: Iterable[Mapping[str, Any]]) -> None:
    """Zendesk's own events of tickets, by their ids; of the forgotten's tickets only that there were some."""
    unique = {row["event_id"]: {"account_id": account_id, **row} for row in rows}
    marks = marks_in(tx)
    if marks:
        about = {
            ticket_id
            for some in chunks(sorted({row["ticket_id"] for row in unique.values()}), _IDS)
            for ticket_id, row in known_tickets(tx, account_id, some).items()
            if _is_forgotten(marks, account_id, row)
        }
        for row in unique.values():
            if row["ticket_id"] in about or marks.has_zendesk_id(account_id, "user", row["updater_id"]):
                row["children"] = []
    upsert(tx, ticket_history, list(unique.values()))
