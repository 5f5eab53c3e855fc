"""What looks at Zendesk have found to differ from what we wrote, for as long as it stands.

Each look has a number that grows. What it finds is noted under that number, and told in the audit only where it is
news; what it does not find again is over. A difference is repaired by what a plan decides: here only links give way
that would keep a plan from seeing it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    case,
    delete,
    exists,
    false,
    func,
    insert,
    or_,
    select,
    update,
)

from airflow_provider_qadzd.ledger.bulk import upsert
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import audit_entry, drift, link, mirror
from airflow_provider_qadzd.ledger.store import Ledger, chunks
from airflow_provider_qadzd.ledger.tombstones import READ_FROM, Marks, marks_in
from airflow_provider_qadzd.records import Kind

What = Literal["edited", "deleted", "merged", "external_id", "moved", "duplicate"]
"""What befell a record: a mapped field edited by hand; deleted; merged into another; its external id removed or
changed; its membership of ours removed, or its default organization none of ours; a second record that looks like it.
"""

WHATS: tuple[What, ...] = get_args(What)

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. `other` is a membership's customer, or a duplicate's id.

    `other_id` is the Zendesk record that it also concerns: the winner of a merge, the duplicate, the organization of a
    membership or of a default. `detail`: what was `changed`, field by field, with what Zendesk has and what we want; of
    a duplicate, what is the `same`. Only what is the record's own stands there, so that forgetting somebody else leaves
    nothing behind.
    """

    kind: Kind
    key: str
    what: What
    zendesk_id: int
    other: str = ""
    other_id: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """Equal for one and the same difference, whatever is known of it."""
        return self.kind, self.key, self.other, self.what

    @property
    def other_kind(self) -> Kind:
        """What the other record is."""
        return "organization" if self.what == "moved" else self.kind


def note(ledger: Ledger, flow: Flow, found: Iterable[Difference], look: int, run: str) -> int:
    """These stand. How many of them are news, which is also told in the audit."""
    news = 0
    for some in chunks(list({one.identity: one for one in found}.values()), _BATCH):
        with ledger.writing() as tx:
            some = _without_forgotten(marks_in(tx), flow, some)
            known = _known(tx, flow, some)
            fresh = [one for one in some if known.get(one.identity) != one]
            now = ledger.now()
            upsert(tx, drift, [_row(flow, one, look, now) for one in some], keep=["first_seen_at"])
            _tell(tx, flow, "drift", fresh, now, run)
            news += len(fresh)
    return news


def _without_forgotten(marks: Marks, flow: Flow, some: Sequence[Difference]) -> list[Difference]:
    """These, of nobody who was forgotten, and without the ids of the forgotten."""
    kept = [one for one in some if not marks.has_key(flow.source_id, READ_FROM[one.kind], one.key)]
    return [
        replace(one, other_id=None) if marks.has_zendesk_id(flow.account_id, one.other_kind, one.other_id) else one
        for one in kept
    ]


def over(ledger: Ledger, flow: Flow, look: int, run: str, contacts: Sequence[str] | None = None) -> int:
    """What this look has not seen again is over, which the audit tells. How many that were.

    Memberships are asked about a part at a time: they are over only for those `contacts` who were asked about, when
    these are given, and for nobody else.
    """
    d = drift.c
    scope = ~_of_membership() if contacts is None else and_(_of_membership(), d.record_key.in_(contacts))
    gone = and_(d.flow_id == flow.flow_id, d.look != look, scope)
    with ledger.writing() as tx:
        rows = [_difference(row) for row in tx.execute(select(drift).where(gone).order_by(*drift.primary_key))]
        tx.execute(delete(drift).where(gone))
        _tell(tx, flow, "drift_over", rows, ledger.now(), run)
    return len(rows)


def standing(ledger: Ledger, flow: Flow, limit: int = 1000) -> list[Row[Any]]:
    """Rows of `drift`, by kind and key, at most `limit`, with the `other_external_id` of the other record, if any."""
    of_kind = case((drift.c.what == "moved", "organization"), else_=drift.c.kind)
    other = and_(
        mirror.c.account_id == flow.account_id, mirror.c.kind == of_kind, mirror.c.zendesk_id == drift.c.other_id
    )
    asked = (
        select(drift, func.coalesce(mirror.c.external_folded, "").label("other_external_id"))
        .select_from(drift.outerjoin(mirror, other))
        .where(drift.c.flow_id == flow.flow_id)
        .order_by(*drift.primary_key)
        .limit(limit)
    )
    with ledger.reading() as tx:
        return list(tx.execute(asked).all())


def counts(ledger: Ledger, flow: Flow) -> dict[str, int]:
    """How many differences of each sort stand."""
    asked = select(drift.c.what, func.count()).where(drift.c.flow_id == flow.flow_id).group_by(drift.c.what)
    with ledger.reading() as tx:
        found = {str(what): int(count) for what, count in tx.execute(asked)}
    return {what: found[what] for what in WHATS if what in found}


def known_gone(ledger: Ledger, flow: Flow, kind: Kind, keys: Sequence[str]) -> dict[str, Difference]:
    """What earlier looks found out about these records that are gone: Zendesk need not be asked again."""
    d = drift.c
    asked = select(drift).where(
        d.flow_id == flow.flow_id, d.kind == kind, d.what.in_(["deleted", "merged"]), d.record_key.in_(keys)
    )
    with ledger.reading() as tx:
        return {row.record_key: _difference(row) for row in tx.execute(asked)}


def lost_memberships(ledger: Ledger, flow: Flow, look: int, limit: int) -> list[str]:
    """Contacts of whom earlier looks found a membership lost, and this one has not asked yet; the oldest first."""
    d = drift.c
    asked = select(d.record_key).where(d.flow_id == flow.flow_id, d.look != look, _of_membership())
    asked = asked.group_by(d.record_key).order_by(func.min(d.look), d.record_key).limit(limit)
    with ledger.reading() as tx:
        return list(tx.execute(asked).scalars())


def _of_membership() -> ColumnElement[bool]:
    return and_(drift.c.what == "moved", drift.c.other_key != "")


# -- making way for a plan ---------------------------------------------------------------------------------------------


def make_way(tx: Connection, ledger: Ledger, flow: Flow, run: str) -> tuple[int, int]:
    """Let the next plan see what its links hide: memberships to add again, and records that were merged.

    A membership that was removed by hand is forgotten, so that it is missing again. A record merged into one that is
    nobody's is linked to that one, which then gets its key and fields. How many of each.
    """
    now = ledger.now()
    lost = _standing(tx, flow, _of_membership())
    for one in lost:
        pair = and_(link.c.flow_id == flow.flow_id, link.c.kind == "membership")
        tx.execute(delete(link).where(pair, link.c.record_key == one.key, link.c.other_key == one.other))
    merged = [one for one in _standing(tx, flow, drift.c.what == "merged") if _link_winner(tx, flow, one, now)]
    _tell(tx, flow, "drift_repair", [*lost, *merged], now, run)
    return len(lost), len(merged)


def _standing(tx: Connection, flow: Flow, which: ColumnElement[bool]) -> list[Difference]:
    asked = select(drift).where(drift.c.flow_id == flow.flow_id, which).order_by(*drift.primary_key)
    return [_difference(row) for row in tx.execute(asked)]


def _link_winner(tx: Connection, flow: Flow, one: Difference, now: str) -> bool:
    other = link.alias()
    free = exists().where(
        mirror.c.account_id == flow.account_id, mirror.c.kind == one.kind, mirror.c.zendesk_id == one.other_id,
        mirror.c.active, mirror.c.external_folded == "", mirror.c.user_role.in_(["", "end-user"]),
    )  # fmt: skip
    taken = exists().where(
        other.c.account_id == flow.account_id, other.c.kind == one.kind, other.c.zendesk_id == one.other_id
    )
    moved = tx.execute(
        update(link)
        .where(
            link.c.flow_id == flow.flow_id, link.c.kind == one.kind, link.c.record_key == one.key,
            link.c.other_key == "", link.c.zendesk_id == one.zendesk_id, free, ~taken,
        )
        .values(zendesk_id=one.other_id, fingerprint="", current_digest="", linked_at=now)
    )  # fmt: skip
    return moved.rowcount == 1


# -- rows --------------------------------------------------------------------------------------------------------------


def _known(tx: Connection, flow: Flow, some: Sequence[Difference]) -> dict[tuple[str, str, str, str], Difference]:
    same: list[ColumnElement[bool]] = [
        and_(drift.c.kind == kind, drift.c.record_key.in_({one.key for one in some if one.kind == kind}))
        for kind in sorted({one.kind for one in some})
    ]
    asked = select(drift).where(drift.c.flow_id == flow.flow_id, or_(false(), *same))
    return {one.identity: one for one in map(_difference, tx.execute(asked))}


def _row(flow: Flow, one: Difference, look: int, now: str) -> dict[str, Any]:
    return {
        "flow_id": flow.flow_id, "kind": one.kind, "record_key": one.key, "other_key": one.other, "what": one.what,
        "zendesk_id": one.zendesk_id, "other_id": one.other_id, "detail": dict(one.detail), "first_seen_at": now,
        "last_seen_at": now, "look": look,
    }  # fmt: skip


def _difference(row: Any) -> Difference:
    return Difference(row.kind, row.record_key, row.what, row.zendesk_id, row.other_key, row.other_id, row.detail)


def _tell(tx: Connection, flow: Flow, event: str, told: Sequence[Difference], now: str, run: str) -> None:
    rows = [
        {
            "flow_id": flow.flow_id, "account_id": flow.account_id, "kind": one.kind, "record_key": one.key,
            "event": event, "happened_at": now, "run": run, "detail": _audited(one),
        }
        for one in told
    ]  # fmt: skip
    if rows:
        tx.execute(insert(audit_entry), rows)


def _audited(one: Difference) -> dict[str, Any]:
    told = {"what": one.what, "zendesk_id": one.zendesk_id, "other": one.other, "other_id": one.other_id, **one.detail}
    return {name: value for name, value in told.items() if value}
