"""Every intended write from plan to outcome, the links that outcomes leave, the audit, and who may apply.

A change is `drafted` while its plan is not whole or waits for a review, and nothing sends it; then `planned`, then
`sent` (with its job once Zendesk named it), then `done` with an outcome; `unknown` is a sent change whose answer was
lost. What is not `done` is open, and one record has at most one open change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger.applying import ApplierLease, prolong
from airflow_provider_qadzd.ledger.bulk import upsert
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import (
    audit_entry,
    change_item,
    is_open,
    is_planned,
    is_sent,
    link,
    mirror,
    plan,
    wanted,
)
from airflow_provider_qadzd.ledger.schema import flow as of_flow
from airflow_provider_qadzd.ledger.store import Ledger, chunks, insert_into
from airflow_provider_qadzd.ledger.tombstones import READ_FROM, Marks, marks_in
from airflow_provider_qadzd.records import Kind, fold

Change = Row[Any]
"""A row of `change_item`."""

Attempt = tuple[str, str, str, str, str]
"""A write by what it would do: record key, other key, operation, base, fingerprint."""

_NOT_AS_WANTED = ("set_aside", "shared_with", "postponed", "failed_retryable", "failed", "unknown")
"""Last outcomes after which it is news that a record needs no change."""

_LATEST = 20_000

_IDS = 500


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of one record, with the link it leaves (`zendesk_id` may be None for a membership).

    `remember` are the entries of merged lists that are ours from now on. `unlinked`: there is no such membership any
    more, and the link goes.
    """

    kind: Kind
    key: str
    outcome: str
    detail: str = ""
    other: str = ""
    change_id: int | None = None
    linked: bool = False
    zendesk_id: int | None = None
    base: str = ""
    fingerprint: str = ""
    ours: bool = True
    unlinked: bool = False
    difference: Mapping[str, Any] = field(default_factory=dict)
    remember: Mapping[str, Any] = field(default_factory=dict)


# -- plans -------------------------------------------------------------------------------------------------------------


class Superseded(Exception):
    """A newer plan of the flow has begun: nothing more is drafted for this one."""


def supersede_planned(ledger: Ledger, flow: Flow) -> None:
    """What an earlier plan wanted and never sent is over, and so is that plan; what was sent stays open."""
    with ledger.writing() as tx:
        _supersede(tx, ledger, flow)


def _supersede(tx: Connection, ledger: Ledger, flow: Flow) -> None:
    unsent, unfinished = ("drafted", "planned"), ("drafting", "waiting", "approved", "going")
    # First the plans: whoever drafts for one of them holds it, and finds it superseded the next time.
    of_flow = and_(plan.c.flow_id == flow.flow_id, plan.c.plan_state.in_(unfinished))
    tx.execute(update(plan).where(of_flow).values(plan_state="superseded"))
    tx.execute(
        update(change_item)
        .where(change_item.c.flow_id == flow.flow_id, change_item.c.change_state.in_(unsent))
        .values(change_state="done", outcome="superseded", ended_at=ledger.now())
    )


def begin_plan(ledger: Ledger, flow: Flow, run: str, mode: str = "apply") -> int:
    """The id of a new, empty plan, which supersedes whatever earlier ones did not send.

    Of several that begin at once, the last one goes on alone: two would each leave out what the other has drafted.
    """
    row = {
        "flow_id": flow.flow_id, "plan_hash": "", "counts": {}, "made_at": ledger.now(), "run": run, "plan_mode": mode,
        "asides": {}, "estimate": {},
    }  # fmt: skip
    with ledger.writing() as tx:
        tx.execute(select(of_flow.c.flow_id).where(of_flow.c.flow_id == flow.flow_id).with_for_update())
        _supersede(tx, ledger, flow)
        return int(tx.execute(insert(plan).values(row).returning(plan.c.plan_id)).scalar_one())


def drop_draft(ledger: Ledger, plan_id: int) -> None:
    """Nothing of what this plan has drafted will be sent."""
    mine = and_(change_item.c.plan_id == plan_id, change_item.c.change_state == "drafted")
    with ledger.writing() as tx:
        tx.execute(
            update(change_item)
            .where(mine)
            .values(change_state="done", outcome="superseded", ended_at=ledger.now())
        )  # fmt: skip


def end_plan(ledger: Ledger, plan_id: int, plan_hash: str, counts: Mapping[str, Any]) -> None:
    """The plan is whole: its counts by decision and the hash over what it would do."""
    with ledger.writing() as tx:
        tx.execute(update(plan).where(plan.c.plan_id == plan_id).values(plan_hash=plan_hash, counts=dict(counts)))


def add_planned(ledger: Ledger, flow: Flow, plan_id: int, rows: Sequence[Mapping[str, Any]], run: str) -> int:
    """Draft these changes, leaving out records that already have an open one. How many were added.

    Nothing sends them before `plans.release` says that the plan is whole and may go. Superseded, if a newer plan of the
    flow has begun.
    """
    if not rows:
        return 0
    common = {
        "plan_id": plan_id, "flow_id": flow.flow_id, "account_id": flow.account_id, "other_key": "", "base": "",
        "fingerprint": "", "zendesk_id": None, "change_state": "drafted", "planned_at": ledger.now(), "run": run,
        "remember": {},
    }  # fmt: skip
    with ledger.writing() as tx:
        own = select(plan.c.plan_state).where(plan.c.plan_id == plan_id).with_for_update()
        if tx.execute(own).scalar_one() != "drafting":
            raise Superseded
        marks = marks_in(tx)
        rows = [row for row in rows if not _forgotten(marks, flow, row["kind"], row["record_key"])]
        # The unique index over open changes tells which records have one, whoever planned it.
        # In its order: two planners that take records in different orders deadlock on PostgreSQL.
        ordered = sorted(rows, key=lambda row: (row["kind"], row["target"]))
        if not ordered:
            return 0
        unless_open = insert_into(tx, change_item).on_conflict_do_nothing()
        # Counted, not returned: with RETURNING, psycopg takes a text of thousands of values apart for each batch.
        added = tx.execute(
            unless_open, [{**common, **row} for row in ordered], execution_options={"preserve_rowcount": True}
        )
        return int(added.rowcount)


def _forgotten(marks: Marks, flow: Flow, kind: str, key: str) -> bool:
    return marks.has_key(flow.source_id, READ_FROM[kind], key)


# -- changes -----------------------------------------------------------------------------------------------------------


SINGLY = 2
"""From so many attempts on, a change is sent by itself."""


def planned(
    ledger: Ledger, flow: Flow, kind: Kind, most: Sequence[int], after: Change | None = None
) -> list[Change]:  # fmt: skip
    """The next changes of `kind` to send, all of one operation and as many attempts: the least tried, the oldest first.

    `most` is how many to take by the number of attempts; its last entry holds for more of them. With `after`, only
    those that come after that one and were tried as often.
    """
    c = change_item.c
    waiting = and_(c.flow_id == flow.flow_id, c.kind == kind, is_planned(change_item))
    if after is not None:
        waiting = and_(waiting, c.attempts == after.attempts, c.change_id > after.change_id)
    with ledger.reading() as tx:
        # What went wrong before goes last: it may go wrong again, and stop the run.
        in_turn = select(change_item).order_by(c.attempts, c.change_id)
        first = tx.execute(in_turn.where(waiting).limit(1)).one_or_none()
        if first is None:
            return []
        tried = c.attempts >= SINGLY if first.attempts >= SINGLY else c.attempts == first.attempts
        limit = most[min(first.attempts, len(most) - 1)]
        return list(tx.execute(in_turn.where(waiting, c.operation == first.operation, tried).limit(limit)).all())


def in_flight(ledger: Ledger, flow: Flow, kind: Kind | None = None) -> list[Change]:
    """The changes that were sent and whose outcome is not known yet."""
    open_sent = and_(change_item.c.flow_id == flow.flow_id, change_item.c.change_state.in_(["sent", "unknown"]))
    if kind is not None:
        open_sent = and_(open_sent, change_item.c.kind == kind)
    with ledger.reading() as tx:
        return list(tx.execute(select(change_item).where(open_sent).order_by(change_item.c.change_id)).all())


def set_aside_since(ledger: Ledger, flow: Flow, kind: Kind, since: str, *, reason: str) -> set[Attempt]:
    """The writes of `kind` that were set aside since then for a reason that begins so, of the latest ones.

    What a replay has released holds nothing back.
    """
    c = change_item.c
    latest = (
        select(
            c.record_key, c.other_key, c.operation, c.base, c.fingerprint, c.outcome, c.reason, c.ended_at, c.released
        )
        .where(c.flow_id == flow.flow_id, c.change_state == "done", c.kind == kind)
        .order_by(c.change_id.desc())
        .limit(_LATEST)
        .subquery()
    )
    asked = select(*list(latest.c)[:5]).where(
        latest.c.outcome == "set_aside",
        latest.c.reason.startswith(reason),
        latest.c.ended_at > since,
        latest.c.released.is_(False),
    )
    with ledger.reading() as tx:
        return {(row[0], row[1], row[2], row[3], row[4]) for row in tx.execute(asked)}


def jobs_in_flight(ledger: Ledger, account_id: int) -> int:
    """How many of the Zendesk account's jobs carry our changes, of whichever flow."""
    c = change_item.c
    asked = select(func.count(c.job_id.distinct())).where(
        c.account_id == account_id, is_sent(change_item), c.job_id != ""
    )
    with ledger.reading() as tx:
        return int(tx.execute(asked).scalar_one())


def last_outcome(ledger: Ledger, flow: Flow, change: Change) -> str:
    """What last became of the record of an organization's or user's change."""
    w = wanted.c
    asked = select(w.last_outcome).where(
        w.flow_id == flow.flow_id, w.kind == change.kind, w.record_key == change.record_key
    )
    with ledger.reading() as tx:
        return str(tx.execute(asked).scalar_one())


def given_up(ledger: Ledger, flow: Flow, change: Change, why: str) -> Ended:
    """The outcome of a change that was tried often enough: put off to the next plan, and the next time set aside."""
    before = last_outcome(ledger, flow, change)
    return Ended(
        change.kind, change.record_key, "set_aside" if before == "failed_retryable" else "failed_retryable", why,
        change_id=change.change_id,
    )  # fmt: skip


def mark_sent(
    ledger: Ledger, lease: ApplierLease, change_ids: Iterable[int],
    intents: Mapping[int, tuple[str, Mapping[str, Any]]] | None = None,
) -> None:  # fmt: skip
    """The intent, committed before the call, and only by whoever holds the applier's lease.

    `intents` are, by change, the fingerprint of what is wanted at this moment and the entries of merged lists that are
    ours with it: the link will say that this is what was written. TryLater, with nothing marked, if the lease is lost,
    or if a newer plan has taken one of these changes back.
    """
    ids = list(change_ids)
    now = ledger.clock.time()
    with ledger.writing() as tx:
        prolong(tx, lease, now)
        ours = and_(change_item.c.change_id.in_(ids), change_item.c.change_state == "planned")
        marked = tx.execute(update(change_item).where(ours).values(change_state="sent", job_id="", sent_epoch=now))
        if marked.rowcount != len(ids):
            raise TryLater("A newer plan has taken changes back that were about to be sent.", wait=5.0)
        if intents:
            tx.execute(
                update(change_item).where(change_item.c.change_id == bindparam("this")),
                [
                    {"this": change_id, "fingerprint": fingerprint, "remember": dict(remember)}
                    for change_id, (fingerprint, remember) in intents.items()
                ],
            )


def not_answered(ledger: Ledger, change_ids: Sequence[int], error: TryLater) -> None:
    """A request that may have acted stays open, to be looked for; one that was turned away is planned again."""
    if error.unanswered:
        mark(ledger, change_ids, change_state="unknown")
    else:
        plan_again(ledger, change_ids, "same")


def mark(ledger: Ledger, change_ids: Iterable[int], **values: Any) -> None:
    """Set columns of these changes: the job that carries them, or a step back to `planned` or `unknown`.

    One that another process has ended meanwhile stays ended.
    """
    with ledger.writing() as tx:
        these = and_(change_item.c.change_id.in_(list(change_ids)), is_open(change_item))
        tx.execute(update(change_item).where(these).values(**values))


def plan_again(ledger: Ledger, change_ids: Iterable[int], how: Literal["same", "smaller", "singly"]) -> None:
    """Nothing came of sending these: they are planned again, in a smaller chunk to find the one that spoils it, or
    singly to hear from Zendesk why.
    """
    tried = change_item.c.attempts
    singly = case((tried < SINGLY, SINGLY), else_=tried + 1)
    attempts = {"same": tried, "smaller": tried + 1, "singly": singly}[how]
    mark(ledger, change_ids, change_state="planned", job_id="", attempts=attempts)


def keep_memory(ledger: Ledger, flow: Flow, items: Sequence[Change]) -> None:
    """What these may have added to merged lists counts as ours, although nobody knows how far they came.

    Without that, an entry that was written by a request whose answer was lost would stay for ever once QAD drops it.
    """
    known = sorted((item for item in items if item.remember), key=lambda item: (item.kind, item.record_key))
    if not known:
        return
    columns = link.c
    with ledger.writing() as tx:
        for item in known:
            this = and_(
                columns.flow_id == flow.flow_id, columns.kind == item.kind, columns.record_key == item.record_key,
                columns.other_key == "",
            )  # fmt: skip
            body = tx.execute(select(columns.body).where(this)).scalar_one_or_none()
            if body is not None:
                more = {name: [*(body.get(name) or []), *entries] for name, entries in item.remember.items()}
                tx.execute(update(link).where(this).values(body={**body, **more}))


def take_stock(ledger: Ledger) -> None:
    """After outcomes were written: a first load fills these tables from nothing, faster than the database looks."""
    ledger.take_stock(link, mirror)


def outcomes_of(ledger: Ledger, flow: Flow, plan_id: int) -> dict[str, dict[str, int]]:
    """Counts by kind and outcome of a plan's changes, and of earlier ones that ended since it was made.

    What is not over counts as `postponed`; what waits for a review does not count.
    """
    made_at = select(plan.c.made_at).where(plan.c.plan_id == plan_id).scalar_subquery()
    ended_since = and_(change_item.c.ended_at >= made_at, change_item.c.outcome != "superseded")
    counted = (
        select(change_item.c.kind, change_item.c.outcome, func.count())
        .where(change_item.c.flow_id == flow.flow_id, or_(change_item.c.plan_id == plan_id, ended_since))
        .where(change_item.c.change_state != "drafted")
        .group_by(change_item.c.kind, change_item.c.outcome)
    )
    counts: dict[str, dict[str, int]] = {}
    with ledger.reading() as tx:
        for kind, outcome, count in tx.execute(counted):
            counts.setdefault(kind, {})[outcome or "postponed"] = int(count)
    return counts


# -- outcomes ----------------------------------------------------------------------------------------------------------


def end(ledger: Ledger, flow: Flow, ended: Sequence[Ended], run: str) -> None:
    """`settle` in a transaction of its own."""
    if ended:
        with ledger.writing() as tx:
            settle(tx, ledger, flow, ended, run)


def settle(tx: Connection, ledger: Ledger, flow: Flow, ended: Sequence[Ended], run: str) -> None:
    """Write outcomes: the change ends, the link stands, the record remembers, and the audit tells if it is news.

    A Zendesk id that another key is linked to stays with that key; this one is set aside, naming it. What another
    process has ended meanwhile has its outcome already.
    """
    now = ledger.now()
    marks = marks_in(tx)
    ended = [one for one in ended if not _forgotten(marks, flow, one.kind, one.key)]
    ended = _without_ended(tx, ended)
    before = _remembered(tx, flow, ended)
    ended = _one_key_an_id(tx, flow, ended)
    over = [
        {"this": one.change_id, "outcome": one.outcome, "reason": one.detail, "zendesk_id": one.zendesk_id}
        for one in sorted(ended, key=lambda one: one.change_id or 0)
        if one.change_id is not None
    ]
    if over:
        is_over = update(change_item).where(change_item.c.change_id == bindparam("this"))
        tx.execute(is_over.values(change_state="done", ended_at=now), over)
    links = [_link(flow, one, before.get((one.kind, one.key)), now) for one in ended if one.linked]
    upsert(tx, link, links, keep=["linked_at", "ours"])
    for one in ended:
        if one.unlinked:
            tx.execute(delete(link).where(*_is_pair(flow, one)))
    news = [one for one in ended if _is_news(one, before.get((one.kind, one.key)))]
    _remember(tx, flow, [one for one in news if not one.other])
    if news:
        tx.execute(insert(audit_entry), [_audit(flow, one, now, run) for one in news])


def _without_ended(tx: Connection, ended: Sequence[Ended]) -> list[Ended]:
    """These outcomes, but for changes that have one. The rows stay locked, so that no two processes write both."""
    c = change_item.c
    over: set[int] = set()
    for some in chunks(sorted(one.change_id for one in ended if one.change_id is not None), _IDS):
        locked = select(c.change_id, c.change_state, c.outcome).where(c.change_id.in_(some))
        rows = tx.execute(locked.order_by(c.change_id).with_for_update()).all()
        over |= {row.change_id for row in rows if row.change_state == "done" and row.outcome != "superseded"}
    return [one for one in ended if one.change_id not in over]


def _remembered(tx: Connection, flow: Flow, ended: Sequence[Ended]) -> dict[tuple[str, str], Any]:
    """What is wanted of these organizations and users, and what became of them last, by kind and key."""
    w = wanted.c
    known: dict[tuple[str, str], Any] = {}
    for kind in ("organization", "user"):
        keys = sorted({one.key for one in ended if one.kind == kind and not one.other})
        for some in chunks(keys, _IDS):
            asked = select(w.kind, w.record_key, w.last_outcome, w.last_detail, w.body, w.fingerprint).where(
                w.flow_id == flow.flow_id, w.kind == kind, w.record_key.in_(some)
            )
            # Locked: of two planners at once the second one sees what the first has told.
            asked = asked.order_by(w.record_key).with_for_update()
            known.update(((row.kind, row.record_key), row) for row in tx.execute(asked))
    return known


def _one_key_an_id(tx: Connection, flow: Flow, ended: Sequence[Ended]) -> list[Ended]:
    """These outcomes; set aside is whose Zendesk id is another key's. Of two new ones the lowest key has it."""
    owners: dict[tuple[str, int], tuple[int, str, str]] = {}
    for kind in sorted({one.kind for one in ended if one.linked}):
        ids = {one.zendesk_id for one in ended if one.linked and one.kind == kind}
        for some in chunks(sorted(one for one in ids if one is not None), _IDS):
            asked = select(link.c.zendesk_id, link.c.flow_id, link.c.record_key, link.c.other_key).where(
                link.c.account_id == flow.account_id, link.c.kind == kind, link.c.zendesk_id.in_(some)
            )
            owners.update(((kind, row[0]), (row[1], row[2], row[3])) for row in tx.execute(asked))
    kept = []
    for one in sorted(ended, key=lambda one: fold(one.key)):
        this = (flow.flow_id, one.key, one.other)
        if one.linked and one.zendesk_id is not None and owners.setdefault((one.kind, one.zendesk_id), this) != this:
            flow_id, key, _ = owners[one.kind, one.zendesk_id]
            holder = key if flow_id == flow.flow_id else f"flow {flow_id} {key}"
            one = replace(one, outcome="set_aside", detail=f"{one.zendesk_id}_held_by {holder}", linked=False)
        kept.append(one)
    return kept


def _is_pair(flow: Flow, one: Ended) -> list[ColumnElement[bool]]:
    c = link.c
    return [c.flow_id == flow.flow_id, c.kind == one.kind, c.record_key == one.key, c.other_key == one.other]


def _is_news(one: Ended, before: Any) -> bool:
    told = ("", "") if before is None else (before.last_outcome, before.last_detail)
    if one.outcome == "unchanged":
        return told[0] in _NOT_AS_WANTED  # what kept it out is over
    return one.change_id is not None or told != (one.outcome, one.detail)


def _link(flow: Flow, one: Ended, before: Any, now: str) -> dict[str, Any]:
    body = before.body if before is not None and before.fingerprint == one.fingerprint else {}
    return {
        "flow_id": flow.flow_id, "kind": one.kind, "record_key": one.key, "other_key": one.other,
        "account_id": flow.account_id, "zendesk_id": one.zendesk_id, "body": {**body, **one.remember},
        "fingerprint": one.fingerprint, "current_digest": one.base, "ours": one.ours, "linked_at": now,
    }  # fmt: skip


def _remember(tx: Connection, flow: Flow, news: Sequence[Ended]) -> None:
    if news:
        this = and_(
            wanted.c.flow_id == flow.flow_id, wanted.c.kind == bindparam("of_kind"),
            wanted.c.record_key == bindparam("of_key"),
        )  # fmt: skip
        tx.execute(
            update(wanted).where(this),
            [
                {"of_kind": one.kind, "of_key": one.key, "last_outcome": one.outcome, "last_detail": one.detail}
                for one in sorted(news, key=lambda one: (one.kind, one.key))
            ],
        )


def _audit(flow: Flow, one: Ended, now: str, run: str) -> dict[str, Any]:
    told = {"detail": one.detail, "other": one.other, "zendesk_id": one.zendesk_id, "changed": dict(one.difference)}
    return {
        "flow_id": flow.flow_id, "account_id": flow.account_id, "kind": one.kind, "record_key": one.key,
        "event": one.outcome, "detail": {name: value for name, value in told.items() if value},
        "happened_at": now, "run": run,
    }  # fmt: skip


def linked_id(ledger: Ledger, flow: Flow, kind: Kind, key: str) -> int | None:
    """The Zendesk id that a key is linked to, or None."""
    with ledger.reading() as tx:
        found = tx.execute(
            select(link.c.zendesk_id).where(
                link.c.flow_id == flow.flow_id, link.c.kind == kind, link.c.record_key == key, link.c.other_key == ""
            )
        ).scalar_one_or_none()
    return None if found is None else int(found)


def last_news(ledger: Ledger, account_id: int) -> int:
    """The number of the newest audit entry about an organization, user or membership of the account, 0 for none."""
    about = audit_entry.c.kind.in_(["organization", "user", "membership"])
    newest = select(audit_entry.c.audit_id).where(audit_entry.c.account_id == account_id, about)
    with ledger.reading() as tx:
        return int(tx.execute(newest.order_by(audit_entry.c.audit_id.desc()).limit(1)).scalar_one_or_none() or 0)
