"""What looks at Zendesk have found to differ from what we wrote or want, for as long as it stands, and who was told.

Each look has a number that grows. What it finds is noted under that number, and told in the audit only where it is
news; what it does not find again is over. A difference is repaired by what a plan decides: here only links give way
that would keep a plan from seeing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, insert, or_, select, tuple_, update

from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import audit_entry, drift, link, mirror
from airflow_provider_qadzd.ledger.store import Ledger, Transaction, chunks, upsert
from airflow_provider_qadzd.records import Kind

What = Literal["edited", "deleted", "merged", "rekeyed", "moved", "duplicate"]
"""What befell a record: a mapped field edited by hand; deleted; merged into another; its external id removed or
changed; its membership of ours removed, or its default organization none of ours; a second record that looks like it.
"""

WHATS: tuple[What, ...] = ("edited", "deleted", "merged", "rekeyed", "moved", "duplicate")

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. `other` is a membership's customer, or the Zendesk id of a duplicate; `detail` is for people.

    Of an edited field, `detail` has what Zendesk has and what we want; of a merged record, the `winner`.
    """

    kind: Kind
    key: str
    what: What
    zendesk_id: int | None
    detail: Mapping[str, Any] = field(default_factory=dict)
    other: str = ""


def note(ledger: Ledger, flow: Flow, found: Sequence[Difference], look: int, run: str) -> int:
    """These stand. How many of them are news, which is also told in the audit."""
    news = 0
    for some in chunks(list({_key_of(one): one for one in found}.values()), _BATCH):
        with ledger.writing() as tx:
            known = _known(tx, flow, some)
            fresh = [one for one in some if known.get(_key_of(one)) != (one.zendesk_id, dict(one.detail))]
            now = ledger.now()
            upsert(tx, drift, [_row(flow, one, look, now) for one in some], keep=["first_seen_at"])
            _tell(tx, flow, "drift", fresh, now, run)
            news += len(fresh)
    return news


def over(ledger: Ledger, flow: Flow, look: int, run: str, contacts: Sequence[str] | None = None) -> int:
    """What this look has not seen again is over, which the audit tells. How many that were.

    Memberships are asked about a part at a time: they are over only for those `contacts` who were asked about, when
    these are given, and for nobody else.
    """
    d = drift.c
    of_membership = and_(d.what == "moved", d.other_key != "")
    scope = ~of_membership if contacts is None else and_(of_membership, d.record_key.in_(contacts))
    gone = and_(d.flow_id == flow.flow_id, d.look != look, scope)
    with ledger.writing() as tx:
        rows = [_difference(row) for row in tx.execute(select(drift).where(gone).order_by(*drift.primary_key))]
        tx.execute(delete(drift).where(gone))
        _tell(tx, flow, "drift_over", rows, ledger.now(), run)
    return len(rows)


def standing(ledger: Ledger, flow: Flow, what: What | None = None, limit: int = 1000) -> list[Any]:
    """Rows of `drift`, by kind and key, at most `limit`; of one sort only, if `what` is given."""
    asked = select(drift).where(drift.c.flow_id == flow.flow_id, *([drift.c.what == what] if what else []))
    with ledger.reading() as tx:
        return list(tx.execute(asked.order_by(*drift.primary_key).limit(limit)).all())


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


# -- making way for a plan ---------------------------------------------------------------------------------------------


def make_way(tx: Transaction, ledger: Ledger, flow: Flow, run: str) -> tuple[int, int]:
    """Let the next plan see what its links hide: memberships to add again, and records that were merged.

    A membership that was removed by hand is forgotten, so that it is missing again. A record merged into one that is
    nobody's is linked to that one, which then gets its key and fields. How many of each.
    """
    now = ledger.now()
    lost = _standing(tx, flow, drift.c.what == "moved", drift.c.other_key != "")
    for some in chunks([(one.key, one.other) for one in lost], _BATCH):
        pair = and_(link.c.flow_id == flow.flow_id, link.c.kind == "membership")
        tx.execute(delete(link).where(pair, tuple_(link.c.record_key, link.c.other_key).in_(some)))
    merged = _standing(tx, flow, drift.c.what == "merged")
    merged = [one for one in merged if _link_winner(tx, flow, one, now)]
    _tell(tx, flow, "drift_repair", [*lost, *merged], now, run)
    return len(lost), len(merged)


def _standing(tx: Connection, flow: Flow, *which: ColumnElement[bool]) -> list[Difference]:
    asked = select(drift).where(drift.c.flow_id == flow.flow_id, *which).order_by(*drift.primary_key)
    return [_difference(row) for row in tx.execute(asked)]


def _link_winner(tx: Connection, flow: Flow, one: Difference, now: str) -> bool:
    winner = int(one.detail.get("winner") or 0)
    other = link.alias()
    free = exists().where(
        mirror.c.account_id == flow.account_id, mirror.c.kind == one.kind, mirror.c.zendesk_id == winner,
        mirror.c.active, mirror.c.external_folded == "", mirror.c.user_role.in_(["", "end-user"]),
    )  # fmt: skip
    taken = exists().where(
        other.c.account_id == flow.account_id, other.c.kind == one.kind, other.c.zendesk_id == winner
    )  # fmt: skip
    moved = tx.execute(
        update(link)
        .where(
            link.c.flow_id == flow.flow_id, link.c.kind == one.kind, link.c.record_key == one.key,
            link.c.other_key == "", link.c.zendesk_id == one.zendesk_id, free, ~taken,
        )
        .values(zendesk_id=winner, fingerprint="", current_digest="", linked_at=now)
    )  # fmt: skip
    return moved.rowcount == 1


# -- rows --------------------------------------------------------------------------------------------------------------


def _key_of(one: Difference) -> tuple[str, str, str, str]:
    return one.kind, one.key, one.other, one.what


def _known(tx: Connection, flow: Flow, some: Sequence[Difference]) -> dict[tuple[str, str, str, str], Any]:
    same: list[ColumnElement[bool]] = [
        and_(drift.c.kind == kind, drift.c.record_key.in_({one.key for one in some if one.kind == kind}))
        for kind in sorted({one.kind for one in some})
    ]
    rows = tx.execute(select(drift).where(drift.c.flow_id == flow.flow_id, or_(*same)))
    return {(row.kind, row.record_key, row.other_key, row.what): (row.zendesk_id, row.detail) for row in rows}


def _row(flow: Flow, one: Difference, look: int, now: str) -> dict[str, Any]:
    return {
        "flow_id": flow.flow_id, "kind": one.kind, "record_key": one.key, "other_key": one.other, "what": one.what,
        "zendesk_id": one.zendesk_id, "detail": dict(one.detail), "first_seen_at": now, "last_seen_at": now,
        "look": look,
    }  # fmt: skip


def _difference(row: Any) -> Difference:
    return Difference(row.kind, row.record_key, row.what, row.zendesk_id, row.detail, row.other_key)


def _tell(tx: Connection, flow: Flow, event: str, told: Sequence[Difference], now: str, run: str) -> None:
    rows = [
        {
            "flow_id": flow.flow_id, "account_id": flow.account_id, "kind": one.kind, "record_key": one.key,
            "event": event, "happened_at": now, "run": run,
            "detail": {
                "what": one.what, "zendesk_id": one.zendesk_id, **({"other": one.other} if one.other else {}),
                **one.detail,
            },
        }
        for one in told
    ]  # fmt: skip
    if rows:
        tx.execute(insert(audit_entry), rows)
