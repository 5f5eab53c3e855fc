"""What the ledger knows of one key: how it stands now, and every step of its story, in time's order.

The steps are one query over everything that remembers them. A key may be that of a customer, a contact, a ticket and a
delivery at once: each has its own story. Nothing here writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    Row,
    Select,
    String,
    Text,
    and_,
    cast,
    func,
    literal,
    null,
    or_,
    select,
    union_all,
)

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import (
    account,
    audit_entry,
    change_item,
    flow,
    inbox,
    is_open,
    link,
    mirror,
    qad_contact_of,
    qad_read,
    qad_record,
    ticket,
    ticket_event,
    ticket_history,
    wanted,
)
from airflow_provider_qadzd.ledger.store import Ledger, iso

Of = Literal["customer", "contact", "ticket", "delivery"]
WRITTEN_AS = {"customer": "organization", "contact": "user"}
"""What a QAD record is in Zendesk."""

PAIRS = ("membership", "identity")
"""What a contact's story has besides its user."""

_LARGEST_ID = 2**63 - 1
_MANY = 20


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened. `what`: seen, planned, sent, answered, audited, event, history, delivered, drained.

    `kind` is what it was about (a contact's story has its memberships), `other` the customer or address of those.
    """

    at: str
    what: str
    kind: str
    told: str = ""
    other: str = ""
    reason: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """One record's story. `where` is the flow's name, for tickets and deliveries the Zendesk account's address.

    `now` is how it stands, by named facts; only what is known is in it.
    """

    of: Of
    key: str
    where: str
    now: Mapping[str, Any]
    steps: tuple[Step, ...]


def stories(ledger: Ledger, key: str, flow_name: str | None = None) -> list[Story]:
    """Every story of that key, in every flow or in the one named. Empty if the ledger never heard of it."""
    found: list[Story] = []
    with ledger.reading() as tx:
        flows = flows_named(tx, flow_name)
        for one in flows:
            found += [story for of in WRITTEN_AS if (story := _of_record(tx, one, of, key)) is not None]
        if key.isdecimal() and int(key) <= _LARGEST_ID:
            for account_id, url in _accounts(tx, flows if flow_name else None):
                found += _of_ticket(tx, account_id, url, int(key))
                found += _of_delivery(tx, account_id, url, inbox.c.delivery_id == int(key))
        else:
            for account_id, url in _accounts(tx, flows if flow_name else None):
                found += _of_delivery(tx, account_id, url, inbox.c.payload_id == key)
    return found


def flows_named(tx: Connection, name: str | None) -> list[Flow]:
    """Every flow that the ledger knows, or the one named; FixFirst if it knows none of that name."""
    rows = tx.execute(select(flow.c.flow_id, flow.c.flow_name, flow.c.source_id, flow.c.account_id)).all()
    known = [Flow(*row) for row in sorted(rows)]
    if name is not None and name not in [one.name for one in known]:
        told = ", ".join(one.name for one in known) or "none; no flow has run yet"
        raise FixFirst(f"The ledger knows no flow {name!r}.", advice=f"Known: {told}.")
    return [one for one in known if name in (None, one.name)]


def _accounts(tx: Connection, flows: Sequence[Flow] | None) -> list[tuple[int, str]]:
    asked = select(account.c.account_id, account.c.base_url).order_by(account.c.account_id)
    if flows is not None:
        asked = asked.where(account.c.account_id.in_([one.account_id for one in flows]))
    return [(row[0], row[1]) for row in tx.execute(asked)]


# -- customers and contacts --------------------------------------------------------------------------------------------


def _of_record(tx: Connection, one: Flow, of: Of | str, key: str) -> Story | None:
    name: Of = "contact" if of == "contact" else "customer"
    now = standing(tx, one, name, key)
    steps = tuple(_read(tx, _record_steps(one, name, key)))
    return Story(name, key, one.name, now, steps) if now or steps else None


def standing(tx: Connection, one: Flow, of: Of, key: str) -> dict[str, Any]:
    """How a customer or contact stands now; empty if it is neither in QAD nor linked.

    `name, email, first_seen_at, last_seen_at, last_seen_by, listed` (in the last complete read) as far as QAD told;
    `external_id, aside, outcome, detail` once it is wanted; `zendesk_id, there, role` once it is linked;
    `open` is the change under way; `customers` or `contacts` whom it belongs together with.
    """
    kind = WRITTEN_AS[of]
    latest = _latest_complete(one.source_id, of)
    r, w = qad_record.c, wanted.c
    seen = tx.execute(
        select(
            r.payload, r.first_seen_at, r.last_read, qad_read.c.started_at, qad_read.c.run, latest.label("latest")
        )
        .select_from(qad_record.outerjoin(qad_read, qad_read.c.read_id == r.last_read))
        .where(r.source_id == one.source_id, r.kind == of, r.record_key == key)
    ).first()  # fmt: skip
    now: dict[str, Any] = {}
    if seen is not None:
        now |= {"name": seen.payload.get("name", ""), "email": seen.payload.get("email", "")}
        now |= {"first_seen_at": seen.first_seen_at, "last_seen_at": seen.started_at, "last_seen_by": seen.run}
        now["listed"] = seen.latest is None or seen.last_read >= seen.latest
    mapped = tx.execute(
        select(w.external_id, w.aside, w.last_outcome.label("outcome"), w.last_detail.label("detail")).where(
            w.flow_id == one.flow_id, w.kind == kind, w.record_key == key
        )
    ).first()
    now |= {} if mapped is None else dict(mapped._mapping)
    now |= _linked(tx, one, kind, key)
    if now:
        now |= _under_way(tx, one, kind, key) | _belonging(tx, one, of, key)
    return {name: value for name, value in now.items() if value not in ("", None, [])}


def _latest_complete(source_id: int, of: str) -> Any:
    complete = (qad_read.c.source_id == source_id, qad_read.c.kind == of, qad_read.c.complete.is_(True))
    return select(func.max(qad_read.c.read_id)).where(*complete).scalar_subquery()


def _linked(tx: Connection, one: Flow, kind: str, key: str) -> dict[str, Any]:
    its_record = and_(
        mirror.c.account_id == link.c.account_id, mirror.c.kind == link.c.kind,
        mirror.c.zendesk_id == link.c.zendesk_id,
    )  # fmt: skip
    row = tx.execute(
        select(link.c.zendesk_id, link.c.linked_at, mirror.c.active.label("there"), mirror.c.user_role.label("role"))
        .select_from(link.outerjoin(mirror, its_record))
        .where(
            link.c.flow_id == one.flow_id, link.c.kind == kind, link.c.record_key == key, link.c.other_key == ""
        )
    ).first()  # fmt: skip
    return {} if row is None else dict(row._mapping)


def _under_way(tx: Connection, one: Flow, kind: str, key: str) -> dict[str, Any]:
    c = change_item.c
    row = tx.execute(
        select(c.operation, c.change_state.label("state"), c.job_id, c.planned_at, c.run).where(
            c.flow_id == one.flow_id, c.kind == kind, c.record_key == key, is_open(change_item)
        )
    ).first()
    return {} if row is None else {"open": dict(row._mapping)}


def _belonging(tx: Connection, one: Flow, of: Of, key: str) -> dict[str, Any]:
    """The customers of a contact, some contacts of a customer with their number, and how many tickets it has."""
    c = qad_contact_of.c
    if of == "contact":
        mine = (c.source_id == one.source_id, c.contact_key == key)
        return {"customers": list(tx.execute(select(c.customer_key).where(*mine).order_by(c.customer_key)).scalars())}
    its = (c.source_id == one.source_id, c.customer_key == key)
    some = list(tx.execute(select(c.contact_key).where(*its).order_by(c.contact_key).limit(_MANY)).scalars())
    count = tx.execute(select(func.count()).select_from(qad_contact_of).where(*its)).scalar_one()
    held = (ticket.c.account_id == one.account_id, ticket.c.customer_key == key)
    tickets = tx.execute(select(func.count()).select_from(ticket).where(*held)).scalar_one()
    return {"contacts": some, "contact_count": count, "ticket_count": tickets}


def _record_steps(one: Flow, of: Of, key: str) -> list[Select[Any]]:
    kinds = [WRITTEN_AS[of], *(PAIRS if of == "contact" else ())]
    r, c, a = qad_record.c, change_item.c, audit_entry.c
    seen = (r.source_id == one.source_id, r.kind == of, r.record_key == key)
    mine = (c.flow_id == one.flow_id, c.kind.in_(kinds), c.record_key == key)
    return [
        _step("seen", literal(of), at=r.first_seen_at, told=literal("first")).where(*seen),
        _step("seen", literal(of), at=qad_read.c.started_at, told=literal("last"), run=qad_read.c.run)
        .select_from(qad_record.join(qad_read, qad_read.c.read_id == r.last_read))
        .where(*seen, qad_read.c.started_at > r.first_seen_at),
        _step(
            "planned", c.kind, at=c.planned_at, told=c.operation, other=c.other_key, detail=c.difference, run=c.run,
            number=c.change_id,
        ).where(*mine),
        _step(
            "sent", c.kind, epoch=c.sent_epoch, told=c.job_id, other=c.other_key, run=c.run, number=c.change_id
        ).where(*mine, c.sent_epoch.is_not(None)),
        _step(
            "answered", c.kind, at=c.ended_at, told=c.outcome, other=c.other_key, reason=c.reason, run=c.run,
            number=c.change_id,
        ).where(*mine, c.ended_at.is_not(None)),
        _step("audited", a.kind, at=a.happened_at, told=a.event, detail=a.detail, run=a.run, number=a.audit_id).where(
            a.kind.in_(kinds), a.record_key == key, or_(a.flow_id == one.flow_id, a.flow_id.is_(None))
        ),
    ]  # fmt: skip


# -- tickets and deliveries --------------------------------------------------------------------------------------------

_TICKET = (
    "status", "gone", "subject", "requester_id", "organization_id", "customer_key", "match_reason", "match_detail",
    "created_at", "updated_at", "solved_at",
)  # fmt: skip


def _of_ticket(tx: Connection, account_id: int, url: str, ticket_id: int) -> Iterator[Story]:
    held = (ticket.c.account_id == account_id, ticket.c.ticket_id == ticket_id)
    row = tx.execute(select(*(ticket.c[name] for name in _TICKET), ticket.c.fetched_epoch).where(*held)).first()
    now: dict[str, Any] = {}
    if row is not None:
        now = {name: value for name, value in row._mapping.items() if value not in ("", None, False)}
        now["fetched_at"] = iso(now.pop("fetched_epoch"))
    steps = tuple(_read(tx, _ticket_steps(account_id, ticket_id)))
    if now or steps:
        yield Story("ticket", str(ticket_id), url, now, steps)


def _ticket_steps(account_id: int, ticket_id: int) -> list[Select[Any]]:
    e, h, i, a = ticket_event.c, ticket_history.c, inbox.c, audit_entry.c
    return [
        _step("delivered", literal("delivery"), at=i.received_at, told=i.kind, number=i.delivery_id).where(
            i.account_id == account_id, i.ticket_id == ticket_id
        ),
        _step(
            "event", literal("ticket"), at=e.recorded_at, told=e.kind, reason=e.found_by, number=e.seq,
            other=func.coalesce(e.customer_key, ""),
        ).where(e.account_id == account_id, e.ticket_id == ticket_id),
        _step("history", literal("ticket"), at=h.occurred_at, number=h.event_id).where(
            h.account_id == account_id, h.ticket_id == ticket_id
        ),
        _step("audited", a.kind, at=a.happened_at, told=a.event, detail=a.detail, run=a.run, number=a.audit_id).where(
            a.kind == "ticket", a.record_key == str(ticket_id), a.account_id == account_id
        ),
    ]  # fmt: skip


def _of_delivery(tx: Connection, account_id: int, url: str, which: ColumnElement[bool]) -> Iterator[Story]:
    i = inbox.c
    names = (
        "delivery_id", "payload_id", "kind", "ticket_id", "occurred_at", "received_at", "inbox_state", "reason",
        "drained_at",
    )  # fmt: skip
    for row in tx.execute(select(*(i[name] for name in names)).where(i.account_id == account_id, which)).all():
        now = {name: value for name, value in row._mapping.items() if value not in ("", None)}
        steps = [Step(row.received_at, "delivered", "delivery", row.kind)]
        if row.drained_at:
            steps.append(Step(row.drained_at, row.inbox_state, "delivery", reason=row.reason))
        events = _step(
            "event", literal("ticket"), at=ticket_event.c.recorded_at, told=ticket_event.c.kind,
            reason=ticket_event.c.found_by, number=ticket_event.c.seq,
        ).where(ticket_event.c.account_id == account_id, ticket_event.c.delivery_id == row.delivery_id)  # fmt: skip
        steps += _read(tx, [events])
        yield Story("delivery", str(row.delivery_id), url, now, tuple(sorted(steps, key=lambda step: step.at)))


# -- steps as one query ------------------------------------------------------------------------------------------------


def _step(
    what: str, kind: ColumnElement[Any], *, at: ColumnElement[Any] | None = None,
    epoch: ColumnElement[Any] | None = None, told: ColumnElement[Any] | None = None,
    other: ColumnElement[Any] | None = None, reason: ColumnElement[Any] | None = None,
    detail: ColumnElement[Any] | None = None, run: ColumnElement[Any] | None = None,
    number: ColumnElement[Any] | None = None,
) -> Select[Any]:  # fmt: skip
    """One memory's part of the union; every part has the same columns, of the same types."""
    nothing = literal("")
    return select(
        literal(what).label("what"), cast(kind, String).label("kind"),
        (cast(null(), String) if at is None else at).label("at"),
        (cast(null(), Double) if epoch is None else epoch).label("epoch"),
        (nothing if told is None else told).label("told"), (nothing if other is None else other).label("other"),
        cast(nothing if reason is None else reason, Text).label("reason"),
        cast(literal("{}") if detail is None else detail, Text).label("detail"),
        (nothing if run is None else run).label("run"),
        cast(literal(0) if number is None else number, BigInteger).label("number"),
    )  # fmt: skip


_ORDER = {name: n for n, name in enumerate(("seen", "delivered", "planned", "sent", "answered", "audited", "event"))}


def _read(tx: Connection, parts: Sequence[Select[Any]]) -> list[Step]:
    """The steps in time's order. An answer that the audit tells as well, with more, is told once."""
    rows = tx.execute(union_all(*parts)).all()
    at = {id(row): row.at if row.epoch is None else iso(row.epoch) for row in rows}
    rows = sorted(rows, key=lambda row: (at[id(row)] or "", _ORDER.get(row.what, 9), row.number))
    steps = [_as_step(row, at[id(row)] or "") for row in rows]
    told = {(step.at, step.kind, step.told, step.other) for step in steps if step.what == "audited"}
    return [
        step for step in steps if step.what != "answered" or (step.at, step.kind, step.told, step.other) not in told
    ]


def _as_step(row: Row[Any], at: str) -> Step:
    detail = dict(json.loads(row.detail or "{}"))
    audited = row.what == "audited"
    other = str(detail.pop("other", "")) if audited else row.other
    reason = str(detail.pop("detail", "")) if audited else row.reason
    return Step(at, row.what, row.kind, row.told, other, reason, detail, row.run)
