"""The inward journey's memory: deliveries, tickets and their QAD customers, events for the sensor, history.

A ticket's row is only ever replaced by one that is not older; every change of it, and every drained delivery, becomes
one numbered ticket event in the same transaction. Numbers are given under the account row's lock, so that a reader who
has seen number n has seen everything below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select, update

from airflow_provider_qadzd.ledger.bulk import among, insert_rows, replace_rows
from airflow_provider_qadzd.ledger.schema import (
    account,
    audit_entry,
    inbox,
    sensor_stretch,
    ticket,
    ticket_event,
    ticket_history,
)
from airflow_provider_qadzd.ledger.store import Ledger, chunks, insert_into, upsert
from airflow_provider_qadzd.ledger.tombstones import Marks, marks_in

EventRow = Row[Any]
DeliveryRow = Row[Any]
_IDS = 500
_PAGE = 1000


# -- deliveries --------------------------------------------------------------------------------------------------------


def store_delivery(ledger: Ledger, row: Mapping[str, Any]) -> bool:
    """Commit one accepted delivery; False if it is a repeat of one that is still to be drained.

    A repeated signed payload id is dropped. A repeated signature without an id, of a delivery already drained, reopens
    it: the trigger route signs no id, so the repeat may be news.
    """
    pending = {"received_at": ledger.now(), "inbox_state": "pending"}
    with ledger.writing() as tx:
        # Two receivers may hold the same delivery: the two unique indexes tell which one of them is first.
        new = insert_into(tx, inbox).values(**row, **pending).on_conflict_do_nothing().returning(inbox.c.delivery_id)
        if tx.execute(new).first() is not None:
            return True
        drained = and_(
            inbox.c.account_id == row["account_id"], inbox.c.signature == row["signature"],
            inbox.c.payload_id.is_(None), inbox.c.inbox_state == "drained",
        )  # fmt: skip
        return tx.execute(update(inbox).where(drained).values(drained_at=None, **pending)).rowcount == 1


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


def told_of(tx: Connection, account_id: int, ticket_ids: Sequence[int]) -> set[int]:
    """Which of these tickets a delivery names that is still to be drained."""
    pending = (inbox.c.account_id == account_id, inbox.c.inbox_state == "pending")
    asked = select(inbox.c.ticket_id).where(*pending, among(tx, inbox.c.ticket_id, ticket_ids))
    return set(tx.execute(asked).scalars())


def end_deliveries(tx: Connection, ledger: Ledger, ids: Iterable[int], state: str, reason: str = "") -> None:
    """These deliveries are drained, and nothing of their bodies is kept; or set aside, and may be read again."""
    tx.execute(
        update(inbox)
        .where(inbox.c.delivery_id.in_(list(ids)))
        .values(
            inbox_state=state, reason=reason, drained_at=ledger.now(), **({} if state == "aside" else {"body": None})
        )
    )


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
    replace_rows(tx, ticket, [{"account_id": account_id, **row} for row in rows])


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
    replace_rows(tx, ticket_history, list(unique.values()))


# -- the sensor --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stretch:
    """Events after `from_seq`, up to `to_seq`."""

    from_seq: int
    to_seq: int


def stretch_of(ledger: Ledger, account_id: int, dag_id: str, task_id: str, run_id: str) -> Stretch | None:
    """What this run of this sensor returned before, None if it has returned nothing yet."""
    c = sensor_stretch.c
    this = and_(c.account_id == account_id, c.dag_id == dag_id, c.task_id == task_id, c.run_id == run_id)
    with ledger.reading() as tx:
        row = tx.execute(select(c.from_seq, c.to_seq).where(this)).one_or_none()
    return None if row is None else Stretch(row.from_seq, row.to_seq)


def last_seen(ledger: Ledger, account_id: int, dag_id: str, task_id: str) -> int:
    """Up to which event earlier runs of this sensor have returned; for a new sensor, up to now."""
    c = sensor_stretch.c
    earlier = and_(c.account_id == account_id, c.dag_id == dag_id, c.task_id == task_id)
    with ledger.reading() as tx:
        seen = tx.execute(select(func.max(c.to_seq)).where(earlier)).scalar_one()
        if seen is None:
            seen = tx.execute(select(account.c.event_seq).where(account.c.account_id == account_id)).scalar_one()
    return int(seen)


def save_stretch(
    ledger: Ledger, account_id: int, dag_id: str, task_id: str, run_id: str, stretch: Stretch
) -> None:  # fmt: skip
    """This run of this sensor returns exactly these events, now and whenever it is cleared."""
    row = {
        "account_id": account_id, "dag_id": dag_id, "task_id": task_id, "run_id": run_id,
        "from_seq": stretch.from_seq, "to_seq": stretch.to_seq, "recorded_at": ledger.now(),
    }  # fmt: skip
    with ledger.writing() as tx:
        upsert(tx, sensor_stretch, [row])


def events_after(
    ledger: Ledger, account_id: int, after: int, *, upto: int | None = None, kinds: Sequence[str] = (),
    customers: Sequence[str] = (), statuses: Sequence[str] = (), limit: int | None = None,
) -> list[EventRow]:  # fmt: skip
    """Events of matched tickets numbered above `after` (at most `upto`), of these kinds, customers and statuses."""
    c = ticket_event.c
    wanted = [c.account_id == account_id, c.seq > after, c.customer_key.is_not(None)]
    if upto is not None:
        wanted.append(c.seq <= upto)
    for column, allowed in ((c.kind, kinds), (c.customer_key, customers), (c.status, statuses)):
        if allowed:
            wanted.append(column.in_(list(allowed)))
    with ledger.reading() as tx:
        return list(tx.execute(select(ticket_event).where(*wanted).order_by(c.seq).limit(limit)).all())
