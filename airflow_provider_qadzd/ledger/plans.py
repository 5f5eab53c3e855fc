"""Plans as people see them: how far each one is, what it would change, who approved it.

A plan is `drafting`, and then `shown` (a dry run), `stopped` (by the brake), `waiting` (for a review), or `going`. One
that waits may be `approved`; `going` ends in `applied`. A newer plan makes whatever is not over `superseded`. Only the
changes of a plan that is going can be sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, and_, case, delete, exists, func, or_, select, update

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import change_item, flow, is_open, plan, wanted
from airflow_provider_qadzd.ledger.store import Ledger, chunks, iso
from airflow_provider_qadzd.records import Kind, fold

PlanState = Literal["drafting", "shown", "stopped", "waiting", "approved", "going", "applied", "superseded"]

PlanRow = Row[Any]
"""A row of `plan`, with its flow's name as `flow_name`."""

Item = Row[Any]
"""A row of `change_item`, with `name` and `other_name` of the records it is about."""

APPROVAL_LASTS = 3600.0
"""Seconds for which an approved plan is left alone by runs that would make a new one."""

_IDS = 500


# -- from draft to end -------------------------------------------------------------------------------------------------


def finish(ledger: Ledger, plan_id: int, state: PlanState, **told: Any) -> bool:
    """The plan is whole and in `state`; `told` are its columns change_count, asides, estimate and stopped.

    False if a newer plan has begun meanwhile: then it stays superseded.
    """
    drafting = and_(plan.c.plan_id == plan_id, plan.c.plan_state == "drafting")
    with ledger.writing() as tx:
        return tx.execute(update(plan).where(drafting).values(plan_state=state, **told)).rowcount == 1


def release(ledger: Ledger, plan_id: int, run: str, states: Sequence[PlanState], without: Iterable[int] = ()) -> bool:
    """Let the plan's changes be sent, but those in `without`, which are over. False unless it is in one of `states`."""
    mine = and_(change_item.c.plan_id == plan_id, change_item.c.change_state == "drafted")
    over = {"change_state": "done", "outcome": "superseded", "reason": "moved", "ended_at": ledger.now()}
    with ledger.writing() as tx:
        may = and_(plan.c.plan_id == plan_id, plan.c.plan_state.in_(states))
        if tx.execute(update(plan).where(may).values(plan_state="going", released_by=run)).rowcount != 1:
            return False
        for some in chunks(sorted(without), _IDS):
            tx.execute(update(change_item).where(mine, change_item.c.change_id.in_(some)).values(over))
        tx.execute(update(change_item).where(mine).values(change_state="planned"))
        return True


def note_applied(ledger: Ledger, plan_id: int) -> None:
    """Nothing of this plan is left to be sent, if it was to be sent at all."""
    with ledger.writing() as tx:
        going = and_(plan.c.plan_id == plan_id, plan.c.plan_state == "going")
        tx.execute(update(plan).where(going).values(plan_state="applied"))


def keep_earlier(ledger: Ledger, earlier: int, new: int) -> None:
    """The new plan is the earlier one once more: its changes become that one's, which goes on waiting."""
    with ledger.writing() as tx:
        c = change_item.c
        tx.execute(delete(change_item).where(c.plan_id == earlier, c.change_state == "done", c.outcome == "superseded"))
        tx.execute(update(change_item).where(c.plan_id == new).values(plan_id=earlier))
        tx.execute(delete(plan).where(plan.c.plan_id == new))
        tx.execute(update(plan).where(plan.c.plan_id == earlier).values(plan_state="waiting"))


# -- review ------------------------------------------------------------------------------------------------------------


def approve(ledger: Ledger, plan_id: int, by: str) -> PlanRow:
    """`by` has looked at the plan and wants it applied. FixFirst in words for a plan that cannot be any more."""
    waits = and_(plan.c.plan_id == plan_id, plan.c.plan_state.in_(["waiting", "approved"]))
    with ledger.writing() as tx:
        approved = {"plan_state": "approved", "approved_by": by, "approved_at": ledger.now()}
        done = tx.execute(update(plan).where(waits).values(approved)).rowcount == 1
    found = plan_at(ledger, plan_id)
    if not done:
        raise refusal(ledger, found)
    return found


def hold_again(ledger: Ledger, plan_id: int) -> None:
    """An approved plan was refused: it waits for somebody to look again, or for a newer one."""
    with ledger.writing() as tx:
        approved = and_(plan.c.plan_id == plan_id, plan.c.plan_state == "approved")
        tx.execute(update(plan).where(approved).values(plan_state="waiting"))


def waiting(ledger: Ledger, of: Flow) -> PlanRow | None:
    """The flow's plan that waits for a review, if there is one."""
    return _newest(ledger, plan.c.flow_id == of.flow_id, plan.c.plan_state == "waiting")


def approved(ledger: Ledger, of: Flow) -> PlanRow | None:
    """The flow's plan that was approved lately and is about to be sent, if there is one."""
    since = iso(ledger.clock.time() - APPROVAL_LASTS)
    return _newest(
        ledger, plan.c.flow_id == of.flow_id, plan.c.plan_state == "approved", plan.c.approved_at > since
    )  # fmt: skip


def refusal(ledger: Ledger, row: PlanRow) -> FixFirst:
    """Why this plan cannot be applied, and what to do instead."""
    number = f"Plan {row.plan_id}"
    if row.plan_state == "superseded":
        newer = _newest(ledger, plan.c.flow_id == row.flow_id, plan.c.plan_id > row.plan_id)
        by = f" by plan {newer.plan_id}" if newer else ""
        return FixFirst(f"{number} is superseded{by}; nothing of it is sent.", advice="Look at the newest plan.")
    told, advice = {
        "applied": ("has been applied already.", "Nothing is left to do."),
        "going": ("is being applied already.", "Nothing is left to do."),
        "drafting": ("is not whole yet.", "Look again in a moment."),
        "shown": ("was a dry run; nothing of it is kept to be sent.", "Run once with mode approve, or with apply."),
        "stopped": ("was stopped by the brake.", "Run once with mode approve and release_brake, then look again."),
    }.get(row.plan_state, ("cannot be applied.", ""))
    return FixFirst(f"{number} {told}", advice=advice)


# -- looking -----------------------------------------------------------------------------------------------------------


def plan_at(ledger: Ledger, plan_id: int) -> PlanRow:
    """The plan of that number. FixFirst if there is none."""
    found = _newest(ledger, plan.c.plan_id == plan_id)
    if found is None:
        raise FixFirst(f"There is no plan {plan_id}.", advice="`airflow qadzd plan list` shows those that there are.")
    return found


def latest(ledger: Ledger, flow_name: str | None = None) -> PlanRow:
    """The newest plan that has changes, or else the newest; of one flow, if it is named. FixFirst without any."""
    of_flow = [] if flow_name is None else [flow.c.flow_name == flow_name]
    found = _newest(ledger, *of_flow, plan.c.change_count > 0) or _newest(ledger, *of_flow)
    if found is None:
        raise FixFirst("There is no plan yet.", advice="Run the DAG qadzd_sync_accounts with mode dry_run.")
    return found


def recent(
    ledger: Ledger, flow_names: Sequence[str], limit: int, *, before: int | None = None, empty: bool = False
) -> list[PlanRow]:  # fmt: skip
    """Plans of these flows, newest first, below `before`. Plans without changes only if `empty`, or if stopped."""
    asked = _plans().where(flow.c.flow_name.in_(flow_names)).limit(limit)
    if before is not None:
        asked = asked.where(plan.c.plan_id < before)
    if not empty:
        asked = asked.where(or_(plan.c.change_count > 0, plan.c.plan_state.in_(["stopped", "waiting"])))
    with ledger.reading() as tx:
        return list(tx.execute(asked).all())


def drafted(ledger: Ledger, plan_id: int, after: int, limit: int) -> list[Row[Any]]:
    """The next changes of the plan that are not released yet, by id."""
    c = change_item.c
    asked = select(change_item).where(c.plan_id == plan_id, c.change_id > after, c.change_state == "drafted")
    with ledger.reading() as tx:
        return list(tx.execute(asked.order_by(c.change_id).limit(limit)).all())


def only_record(ledger: Ledger, plan_id: int) -> tuple[Kind, str] | None:
    """The organization or user that all the plan's changes are about, None if there are none or several."""
    c = change_item.c
    about = case((c.kind == "organization", "organization"), else_="user")
    asked = select(about, c.record_key).where(c.plan_id == plan_id).distinct().limit(2)
    with ledger.reading() as tx:
        found = tx.execute(asked).all()
    return (found[0][0], found[0][1]) if len(found) == 1 else None


def tally(ledger: Ledger, plan_id: int) -> dict[tuple[str, str], int]:
    """How many changes by kind and operation."""
    c = change_item.c
    asked = select(c.kind, c.operation, func.count()).where(c.plan_id == plan_id).group_by(c.kind, c.operation)
    with ledger.reading() as tx:
        return {(kind, operation): int(count) for kind, operation, count in tx.execute(asked)}


def with_their_user(ledger: Ledger, plan_id: int) -> int:
    """How many new users have a membership in the same draft: the first one comes with the user."""
    first = change_item.alias("first")
    asked = select(func.count()).where(
        change_item.c.plan_id == plan_id, change_item.c.kind == "user", change_item.c.operation == "create",
        exists().where(
            first.c.flow_id == change_item.c.flow_id, first.c.kind == "membership",
            first.c.record_key == change_item.c.record_key, is_open(first),
        ),
    )  # fmt: skip
    with ledger.reading() as tx:
        return int(tx.execute(asked).scalar_one())


def progress(ledger: Ledger, plan_id: int) -> dict[str, int]:
    """How many of its changes are how far: an outcome, or the state of those that have none yet."""
    c = change_item.c
    how_far = case((c.change_state == "done", c.outcome), else_=c.change_state)
    asked = select(how_far, func.count()).where(c.plan_id == plan_id).group_by(how_far)
    with ledger.reading() as tx:
        return {name: int(count) for name, count in tx.execute(asked)}


def updates(ledger: Ledger, plan_id: int, limit: int) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Kind, key and difference of the plan's first updates of records that are there."""
    c = change_item.c
    asked = select(c.kind, c.record_key, c.difference).where(c.plan_id == plan_id, c.operation == "update")
    with ledger.reading() as tx:
        return [(row[0], row[1], row[2]) for row in tx.execute(asked.order_by(c.change_id).limit(limit))]


def page(
    ledger: Ledger, plan_id: int, limit: int, *, kind: str = "", action: str = "", search: str = "", after: int = 0
) -> list[Item]:  # fmt: skip
    """The plan's next changes above the change id `after`, with names.

    `action` is an intended outcome (`created`), or an operation where there is none. `search` is the start of a key, or
    a part of a name.
    """
    c, named, other = change_item.c, wanted.alias("named"), wanted.alias("other")
    of_kind = case((c.kind == "organization", "organization"), else_="user")
    asked = (
        select(change_item, named.c.body["name"].as_string().label("name"),
               other.c.body["name"].as_string().label("other_name"))
        .select_from(change_item)
        .outerjoin(named, and_(named.c.flow_id == c.flow_id, named.c.kind == of_kind,
                               named.c.record_key == c.record_key))
        .outerjoin(other, and_(other.c.flow_id == c.flow_id, other.c.kind == "organization",
                               other.c.record_key == c.other_key, c.kind == "membership"))
        .where(c.plan_id == plan_id, c.change_id > after)
        .order_by(c.change_id)
        .limit(limit)
    )  # fmt: skip
    if kind:
        asked = asked.where(c.kind == kind)
    if action:
        asked = asked.where(case((c.intended == "", c.operation), else_=c.intended) == action)
    if search:
        asked = asked.where(or_(
            func.lower(c.record_key).startswith(fold(search), autoescape=True),
            func.lower(c.other_key).startswith(fold(search), autoescape=True),
            named.c.name_folded.contains(fold(search), autoescape=True),
            other.c.name_folded.contains(fold(search), autoescape=True),
        ))  # fmt: skip
    with ledger.reading() as tx:
        return list(tx.execute(asked).all())


def set_aside_now(
    ledger: Ledger, flow_id: int, limit: int, *, kind: str = "", reason: str = "", search: str = "",
    after: tuple[str, str] = ("", ""),
) -> list[Row[Any]]:  # fmt: skip
    """Organizations and users that are set aside at this moment, with name and detail; by kind and key, above `after`.

    `reason` is the first word of the detail; `search` as in `page`.
    """
    w = wanted.c
    asked = (
        select(w.kind, w.record_key, w.last_detail, w.body["name"].as_string().label("name"))
        .where(w.flow_id == flow_id, w.last_outcome == "set_aside")
        .where(or_(w.kind > after[0], and_(w.kind == after[0], w.record_key > after[1])))
        .order_by(w.kind, w.record_key)
        .limit(limit)
    )
    if kind:
        asked = asked.where(w.kind == kind)
    if reason:
        asked = asked.where(or_(w.last_detail == reason, w.last_detail.startswith(f"{reason} ", autoescape=True)))
    if search:
        name = w.name_folded.contains(fold(search), autoescape=True)
        asked = asked.where(or_(func.lower(w.record_key).startswith(fold(search), autoescape=True), name))
    with ledger.reading() as tx:
        return list(tx.execute(asked).all())


def _newest(ledger: Ledger, *where: ColumnElement[bool]) -> PlanRow | None:
    with ledger.reading() as tx:
        return tx.execute(_plans().where(*where).limit(1)).one_or_none()


def _plans() -> Any:
    return (
        select(plan, flow.c.flow_name)
        .join(flow, flow.c.flow_id == plan.c.flow_id)
        .order_by(plan.c.plan_id.desc())
    )  # fmt: skip
