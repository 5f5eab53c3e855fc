"""Forgetting a customer or a contact: what names them goes, and a tombstone keeps them from being stored again.

What was done stays countable: changes and audit entries remain under a pseudonym, without a value in them; tickets
remain with their states. It all happens in one transaction, and doing it again does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, String, Table, and_, cast, delete, false, insert, or_, select, update

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.ledger import tombstones
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import (
    audit_entry,
    change_item,
    drift,
    inbox,
    is_open,
    link,
    mirror,
    qad_contact_of,
    qad_record,
    ticket,
    ticket_event,
    ticket_history,
    wanted,
)
from airflow_provider_qadzd.ledger.store import Ledger, chunks
from airflow_provider_qadzd.ledger.stories import PAIRS, WRITTEN_AS, flows_named
from airflow_provider_qadzd.ledger.tickets import REDACTED
from airflow_provider_qadzd.ledger.tombstones import Of
from airflow_provider_qadzd.records import fold

_IDS = 500
_UNSENT = ("drafted", "planned")


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is to be forgotten, and where: the flows of one QAD source, and the records in each Zendesk account.

    `emails` are folded. `shared_with` are other contacts with one of them: such an address gets no tombstone, because
    it is not this person's alone. `contacts` of a customer are not forgotten with it.
    """

    of: Of
    key: str
    source_id: int
    flows: tuple[Flow, ...]
    names: tuple[str, ...]
    emails: tuple[str, ...]
    external_ids: tuple[str, ...]
    zendesk_ids: tuple[tuple[int, int], ...]
    shared_with: tuple[str, ...] = ()
    contacts: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What they are in Zendesk."""
        return WRITTEN_AS[self.of]

    def ids_in(self, account_id: int) -> list[int]:
        """Their Zendesk ids in an account."""
        return [zendesk_id for where, zendesk_id in self.zendesk_ids if where == account_id]


def subjects(ledger: Ledger, key: str, flow_name: str | None = None) -> list[Subject]:
    """Whoever has that key: a customer, a contact, or both; of each QAD source that a flow reads."""
    with ledger.reading() as tx:
        flows = flows_named(tx, flow_name)
        every = flows_named(tx, None)
        sources = sorted({one.source_id for one in flows})
        found = [
            _subject(tx, of, key, source_id, tuple(one for one in every if one.source_id == source_id))
            for source_id in sources
            for of in _ALL
        ]
    return [one for one in found if one is not None]


_ALL: tuple[Of, ...] = ("customer", "contact")


def _subject(tx: Connection, of: Of, key: str, source_id: int, flows: tuple[Flow, ...]) -> Subject | None:
    kind, flow_ids = WRITTEN_AS[of], [one.flow_id for one in flows]
    r, w, n = qad_record.c, wanted.c, link.c
    payload = tx.execute(
        select(r.payload).where(r.source_id == source_id, r.kind == of, r.record_key == key)
    ).scalar_one_or_none()
    mapped = tx.execute(
        select(w.flow_id, w.external_id, w.external_folded, w.email_folded).where(
            w.flow_id.in_(flow_ids), w.kind == kind, w.record_key == key
        )
    ).all()
    linked = tx.execute(
        select(n.account_id, n.zendesk_id).where(
            n.flow_id.in_(flow_ids), n.kind == kind, n.record_key == key, n.other_key == ""
        )
    ).all()
    if payload is None and not mapped and not linked:
        return None
    emails = {fold(str((payload or {}).get("email") or "")), *(row.email_folded for row in mapped)}
    emails |= _added_addresses(tx, flow_ids, key) if of == "contact" else set()
    ids = {(row.account_id, row.zendesk_id) for row in linked if row.zendesk_id is not None}
    names = {str((payload or {}).get("name") or "")}
    for one in flows:
        external = [row.external_folded for row in mapped if row.flow_id == one.flow_id]
        known = [zendesk_id for where, zendesk_id in ids if where == one.account_id]
        for row in _in_mirror(tx, one.account_id, kind, external, sorted(emails - {""}), known):
            ids.add((one.account_id, row.zendesk_id))
            names.add(str(row.fields.get("name") or ""))
            emails.add(row.email_folded)
    addresses = sorted(emails - {""})
    return Subject(
        of, key, source_id, flows, tuple(sorted(names - {""})), tuple(addresses),
        tuple(sorted({row.external_folded for row in mapped})), tuple(sorted(ids)),
        shared_with=_sharing(tx, flow_ids, key, addresses) if of == "contact" else (),
        contacts=_contacts(tx, source_id, key) if of == "customer" else (),
    )  # fmt: skip


def _added_addresses(tx: Connection, flow_ids: Sequence[int], key: str) -> set[str]:
    mine = (link.c.flow_id.in_(flow_ids), link.c.kind == "identity", link.c.record_key == key)
    return set(tx.execute(select(link.c.other_key).where(*mine)).scalars())


def _in_mirror(
    tx: Connection, account_id: int, kind: str, external: Sequence[str], emails: Sequence[str], ids: Sequence[int]
) -> Sequence[Any]:  # fmt: skip
    m = mirror.c
    like: list[ColumnElement[bool]] = [m.external_folded.in_(external), m.zendesk_id.in_(ids)]
    if kind == "user":
        like.append(and_(m.email_folded.in_(emails), m.external_folded.in_(["", *external])))
    return tx.execute(
        select(m.zendesk_id, m.fields, m.email_folded).where(m.account_id == account_id, m.kind == kind, or_(*like))
    ).all()


def _sharing(tx: Connection, flow_ids: Sequence[int], key: str, emails: Sequence[str]) -> tuple[str, ...]:
    w = wanted.c
    others = (w.flow_id.in_(flow_ids), w.kind == "user", w.email_folded.in_(emails), w.record_key != key)
    return tuple(tx.execute(select(w.record_key).where(*others).distinct().order_by(w.record_key)).scalars())


def _contacts(tx: Connection, source_id: int, key: str) -> tuple[str, ...]:
    c = qad_contact_of.c
    its = (c.source_id == source_id, c.customer_key == key)
    return tuple(tx.execute(select(c.contact_key).where(*its).order_by(c.contact_key)).scalars())


# -- doing it ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was done: the pseudonym left behind, and how many rows went or were emptied, by table."""

    pseudonym: str
    rows: dict[str, int]


def forget(ledger: Ledger, subject: Subject, run: str) -> Forgotten:
    """Forget them. TryLater while a write of theirs is under way: its answer would come back and be kept."""
    rows: dict[str, int] = {}
    with ledger.writing() as tx:
        if ledger.is_sqlite:
            tx.exec_driver_sql("PRAGMA secure_delete=ON")
        for one in subject.flows:
            _refuse_under_way(tx, one, subject)
        tombstones.add_marks(tx, ledger, lambda secret: _marks(secret, subject))
        secret = tombstones.secret_in(tx, ledger)
        pseudonym = f"forgotten-{tombstones.key_mark(secret, subject.source_id, subject.of, subject.key)[:16]}"
        eraser = _Eraser(tx, ledger, subject, pseudonym, rows)
        for one in subject.flows:
            eraser.of_flow(one)
            eraser.audit(one, run)
        for account_id in sorted({one.account_id for one in subject.flows}):
            eraser.of_account(account_id)
        eraser.of_source()
    return Forgotten(pseudonym, {name: count for name, count in rows.items() if count})


def _refuse_under_way(tx: Connection, one: Flow, subject: Subject) -> None:
    c = change_item.c
    open_of = and_(c.flow_id == one.flow_id, _about(change_item, subject), is_open(change_item))
    if tx.execute(select(c.change_id).where(open_of, c.change_state.not_in(_UNSENT)).limit(1)).first() is not None:
        raise TryLater(
            f"A change of {subject.of} {subject.key} is on its way to Zendesk.", wait=60.0,
            advice="Run it again when the flow's run has ended.",
        )  # fmt: skip


def _marks(secret: bytes, subject: Subject) -> list[str]:
    marks = [tombstones.key_mark(secret, subject.source_id, subject.of, subject.key)]
    if not subject.shared_with:
        marks += [tombstones.email_mark(secret, subject.of, email) for email in subject.emails]
    for account_id in {one.account_id for one in subject.flows}:
        marks += [
            tombstones.external_mark(secret, account_id, subject.kind, one) for one in subject.external_ids if one
        ]
    return marks + [tombstones.zendesk_mark(secret, where, subject.kind, one) for where, one in subject.zendesk_ids]


def _about(table: Table, subject: Subject) -> ColumnElement[bool]:
    """Rows of `change_item` about them: their own, and of a customer the memberships in it."""
    c = table.c
    own = and_(c.kind == subject.kind, c.record_key == subject.key)
    if subject.of == "contact":
        return or_(own, and_(c.kind.in_(PAIRS), c.record_key == subject.key))
    return or_(own, and_(c.kind == "membership", c.other_key == subject.key))


@dataclass(frozen=True, slots=True)
class _Eraser:
    """Takes a subject out of one table after the other, counting rows."""

    tx: Connection
    ledger: Ledger
    subject: Subject
    pseudonym: str
    rows: dict[str, int]

    def _count(self, table: Table, done: int) -> None:
        name = table.name.removeprefix("qadzd_")
        self.rows[name] = self.rows.get(name, 0) + done

    def _delete(self, table: Table, *which: ColumnElement[bool]) -> None:
        self._count(table, self.tx.execute(delete(table).where(*which)).rowcount)

    def _empty(self, table: Table, *which: ColumnElement[bool], **values: Any) -> None:
        self._count(table, self.tx.execute(update(table).where(*which).values(values)).rowcount)

    def of_flow(self, one: Flow) -> None:
        """What was wanted, linked, changed and told of them in a flow."""
        subject, c = self.subject, change_item.c
        mine = and_(c.flow_id == one.flow_id, _about(change_item, subject))
        self.tx.execute(
            update(change_item)
            .where(mine, c.change_state.in_(_UNSENT))
            .values(change_state="done", outcome="superseded", reason="forgotten", ended_at=self.ledger.now())
        )
        nothing: dict[str, Any] = {
            "difference": {},
            "remember": {},
            "base": "",
            "fingerprint": "",
            "target": self.pseudonym,
        }
        self._empty(change_item, mine, c.record_key == subject.key, **nothing, other_key="", record_key=self.pseudonym)
        self._empty(change_item, mine, **nothing, other_key=self.pseudonym)
        a = audit_entry.c
        kinds = [subject.kind, *(PAIRS if subject.of == "contact" else ())]
        self._empty(
            audit_entry, a.flow_id == one.flow_id, a.kind.in_(kinds), a.record_key == subject.key,
            record_key=self.pseudonym, detail={},
        )  # fmt: skip
        if subject.of == "customer":
            of_member = and_(a.flow_id == one.flow_id, a.kind == "membership")
            self._empty(audit_entry, of_member, a.detail["other"].as_string() == subject.key, detail={})
        w, n = wanted.c, link.c
        self._delete(wanted, w.flow_id == one.flow_id, w.kind == subject.kind, w.record_key == subject.key)
        self._delete(link, n.flow_id == one.flow_id, _about(link, subject))
        self._drift(one)

    def _drift(self, one: Flow) -> None:
        """What looks found about them, and that somebody else's difference concerns their record in Zendesk."""
        subject, d, a = self.subject, drift.c, audit_entry.c
        ids = subject.ids_in(one.account_id)
        of_member = and_(d.kind == "user", d.other_key == subject.key) if subject.of == "customer" else false()
        own = and_(d.kind == subject.kind, d.record_key == subject.key)
        self._delete(drift, d.flow_id == one.flow_id, or_(own, of_member, d.other_id.in_(ids)))
        told = and_(a.flow_id == one.flow_id, a.event.in_(["drift", "drift_over", "drift_repair"]))
        other = a.detail["other"].as_string() == subject.key if subject.of == "customer" else false()
        # As text: ids are longer than what PostgreSQL is asked to take for an integer, and SQLite finds a number there.
        concerned = cast(a.detail["other_id"].as_string(), String).in_([str(one) for one in ids])
        self._empty(audit_entry, told, or_(other, concerned), detail={})

    def audit(self, one: Flow, run: str) -> None:
        """That it was done, to whom nobody can tell from it."""
        row = {
            "flow_id": one.flow_id, "account_id": one.account_id, "kind": self.subject.kind,
            "record_key": self.pseudonym, "event": "forgotten", "detail": {}, "happened_at": self.ledger.now(),
            "run": run,
        }  # fmt: skip
        self.tx.execute(insert(audit_entry), [row])

    def of_account(self, account_id: int) -> None:
        """What is known of them in a Zendesk account: their record, and the words of their tickets."""
        subject, m = self.subject, mirror.c
        ids = subject.ids_in(account_id)
        here = (m.account_id == account_id, m.kind == subject.kind)
        self._delete(mirror, *here, or_(m.zendesk_id.in_(ids), m.external_folded.in_(subject.external_ids)))
        self._empty(inbox, inbox.c.account_id == account_id, inbox.c.body.is_not(None), body=None)
        t = ticket.c
        flow_ids = [one.flow_id for one in subject.flows]
        whose = (
            t.requester_id.in_(ids)
            if subject.of == "contact"
            else or_(t.organization_id.in_(ids), and_(t.flow_id.in_(flow_ids), t.customer_key == subject.key))
        )
        about = list(self.tx.execute(select(t.ticket_id).where(t.account_id == account_id, whose)).scalars())
        for some in chunks(sorted(about), _IDS):
            self._tickets(account_id, some)
        if subject.of == "contact":
            h = ticket_history.c
            self._empty(ticket_history, h.account_id == account_id, h.updater_id.in_(ids), children=[])

    def _tickets(self, account_id: int, ids: Sequence[int]) -> None:
        t, h, e, a = ticket.c, ticket_history.c, ticket_event.c, audit_entry.c
        these = and_(t.account_id == account_id, t.ticket_id.in_(ids))
        self._empty(ticket, these, **REDACTED)
        self._empty(ticket_history, h.account_id == account_id, h.ticket_id.in_(ids), children=[])
        if self.subject.of == "customer":
            self.tx.execute(
                update(ticket)
                .where(these, t.customer_key == self.subject.key)
                .values(customer_key=None, flow_id=None, match_reason="forgotten", match_detail="")
            )
            self._empty(ticket_event, e.account_id == account_id, e.customer_key == self.subject.key, customer_key=None)
            keys = [str(one) for one in ids]
            self._empty(
                audit_entry, a.account_id == account_id, a.kind == "ticket", a.record_key.in_(keys), detail={}
            )  # fmt: skip

    def of_source(self) -> None:
        """What QAD told of them."""
        subject, r, c = self.subject, qad_record.c, qad_contact_of.c
        self._delete(qad_record, r.source_id == subject.source_id, r.kind == subject.of, r.record_key == subject.key)
        mine = c.contact_key if subject.of == "contact" else c.customer_key
        self._delete(qad_contact_of, c.source_id == subject.source_id, mine == subject.key)


def forgotten_since(ledger: Ledger, key: str, flow_name: str | None = None) -> list[tuple[str, str]]:
    """(customer or contact, when) for each of that key that was forgotten."""
    with ledger.reading() as tx:
        sources = sorted({one.source_id for one in flows_named(tx, flow_name)})
    found = []
    for source_id in sources:
        for of in _ALL:
            when = tombstones.forgotten_at(
                ledger,
                lambda secret, s=source_id, o=of: tombstones.key_mark(secret, s, o, key),  # type: ignore[misc]
            )
            if when is not None:
                found.append((str(of), when))
    return found


def one_subject(found: Sequence[Subject], key: str, of: str | None) -> Subject:
    """The only one of them, of the kind given if it is; FixFirst if that leaves none, or several."""
    fitting = [one for one in found if of in (None, one.of)]
    if not fitting:
        raise FixFirst(
            f"The ledger knows no {of or 'customer or contact'} {key!r}.", advice="See: airflow qadzd story."
        )
    if len(fitting) > 1:
        told = ", ".join(f"{one.of} of flow {one.flows[0].name}" for one in fitting)
        raise FixFirst(f"The key {key!r} is that of several: {told}.", advice="Say which with --kind or --flow.")
    return fitting[0]
