"""Replay: what came to nothing is decided again, from what is wanted by then; no stored body is ever sent.

Most of it is decided anew by every plan. Two things hold a record back, and only they are lifted here, for the chosen
records alone: a refusal by Zendesk counts for a day, and a linked record in step with the mirror is not looked at. A
delivery that was set aside is opened again, and drained like a new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    exists,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import audit_entry, change_item, inbox, link, wanted
from airflow_provider_qadzd.ledger.store import Ledger
from airflow_provider_qadzd.ledger.stories import PAIRS, WRITTEN_AS
from airflow_provider_qadzd.records import FAILED, fold

_PAGE = 1000
_KINDS = (*WRITTEN_AS.values(), *PAIRS)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which records: all that is given must fit. `reason` is how the kept detail begins, or its code.

    `since` and `until` are ISO 8601 in UTC and bound when it came to nothing; `run` is the run that planned or sent it.
    With a `key` the record is chosen whether or not it failed: a customer, contact, ticket id or delivery id.
    """

    key: str = ""
    reason: str = ""
    run: str = ""
    since: str = ""
    until: str = ""

    def checked(self) -> Chosen:
        """These, if anything is chosen by them; FixFirst if not, so that nobody replays everything by leaving out."""
        stripped = replace(self, **{name: str(getattr(self, name) or "").strip() for name in self.__slots__})
        if stripped == Chosen():
            raise FixFirst("Nothing says what to replay.", advice="Give a key, a reason, a run, or a time.")
        return stripped


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many records and deliveries will be decided and drained again, with some of their keys."""

    records: int
    deliveries: int
    examples: tuple[str, ...] = ()

    def summary(self) -> str:
        """One line for the log."""
        some = f" ({', '.join(self.examples)}{', ...' if self.records > len(self.examples) else ''})"
        told = f"{self.records} records{some if self.examples else ''} will be decided again"
        return f"{told}, {self.deliveries} deliveries drained again."


def replay(ledger: Ledger, flow: Flow, chosen: Chosen, run: str) -> Replayed:
    """Lift what holds the chosen records back, and tell it in the audit. Doing it twice does no harm."""
    chosen, count, examples = chosen.checked(), 0, list[str]()
    for kind in _KINDS:
        for keys in _pages(ledger, flow, kind, chosen):
            with ledger.writing() as tx:
                _release(tx, flow, kind, keys)
                tx.execute(insert(audit_entry), [_audit(ledger, flow, kind, *key, run) for key in keys])
            count += len(keys)
            examples += [f"{kind} {'/'.join(filter(None, key))}" for key in keys[: 5 - len(examples)]]
    return Replayed(count, _reopened(ledger, flow.account_id, chosen), tuple(examples))


def _audit(ledger: Ledger, flow: Flow, kind: str, key: str, other: str, run: str) -> dict[str, Any]:
    return {
        "flow_id": flow.flow_id, "account_id": flow.account_id, "kind": kind, "record_key": key, "event": "replayed",
        "detail": {"other": other} if other else {}, "happened_at": ledger.now(), "run": run,
    }  # fmt: skip


def _release(tx: Connection, flow: Flow, kind: str, keys: Sequence[tuple[str, str]]) -> None:
    """No earlier refusal of these counts any more, and those that are linked differ from what was written."""
    c, n, first = change_item.c, link.c, sorted({key for key, _ in keys})
    held_back = and_(
        c.flow_id == flow.flow_id, c.kind == kind, c.record_key.in_(first), c.change_state == "done",
        c.outcome == "set_aside", c.released.is_(False),
    )  # fmt: skip
    tx.execute(update(change_item).where(held_back).values(released=True))
    if kind not in PAIRS:
        its_link = (n.flow_id == flow.flow_id, n.kind == kind, n.record_key.in_(first), n.other_key == "")
        tx.execute(update(link).where(*its_link).values(fingerprint=""))


# -- which -------------------------------------------------------------------------------------------------------------


def _pages(ledger: Ledger, flow: Flow, kind: str, chosen: Chosen) -> Iterator[Sequence[tuple[str, str]]]:
    """(key, other key) of the chosen ones, in key order, a page at a time; organizations and users have no other."""
    asked = _pairs(flow, kind, chosen) if kind in PAIRS else _records(flow, kind, chosen)
    columns = list(asked.selected_columns)
    after: Sequence[str] = [""] * len(columns)
    while True:
        beyond = tuple_(*columns) > tuple_(*map(literal, after))
        with ledger.reading() as tx:
            page = tx.execute(asked.where(beyond).order_by(*columns).limit(_PAGE)).all()
        if not page:
            return
        yield [(row[0], row[1] if len(row) > 1 else "") for row in page]
        after = list(page[-1])


def _records(flow: Flow, kind: str, chosen: Chosen) -> Select[Any]:
    w, a = wanted.c, audit_entry.c
    fits = [w.flow_id == flow.flow_id, w.kind == kind]
    if chosen.key:
        fits.append(or_(w.record_key == chosen.key, w.external_folded == fold(chosen.key)))
    else:
        fits.append(or_(w.last_outcome.in_(FAILED), w.aside != ""))
    if chosen.reason:
        fits.append(or_(_begins(w.last_detail, chosen.reason), _begins(w.aside, chosen.reason)))
    if chosen.run or chosen.since or chosen.until:
        told = [a.kind == kind, a.record_key == w.record_key, a.flow_id == w.flow_id, a.event.in_(FAILED)]
        fits.append(exists().where(*told, *_when(audit_entry, "happened_at", chosen)))
    return select(w.record_key).where(*fits)


def _pairs(flow: Flow, kind: str, chosen: Chosen) -> Select[Any]:
    c, there = change_item.c, link.alias("there")
    fits = [c.flow_id == flow.flow_id, c.kind == kind, c.change_state == "done", c.outcome.in_(FAILED)]
    is_there = (
        there.c.flow_id == c.flow_id, there.c.kind == c.kind, there.c.record_key == c.record_key,
        there.c.other_key == c.other_key,
    )  # fmt: skip
    fits.append(~exists().where(*is_there))
    if chosen.key:
        fits.append(or_(c.record_key == chosen.key, c.other_key == chosen.key))
    if chosen.reason:
        fits.append(_begins(c.reason, chosen.reason))
    fits += _when(change_item, "ended_at", chosen)
    return select(c.record_key, c.other_key).where(*fits).distinct()


def _begins(column: ColumnElement[Any], words: str) -> ColumnElement[bool]:
    return column.startswith(words, autoescape=True)


def _when(table: Table, at: str, chosen: Chosen) -> list[ColumnElement[bool]]:
    fits = [table.c.run == chosen.run] if chosen.run else []
    fits += [table.c[at] >= chosen.since] if chosen.since else []
    return fits + ([table.c[at] <= chosen.until] if chosen.until else [])


# -- deliveries --------------------------------------------------------------------------------------------------------


def _reopened(ledger: Ledger, account_id: int, chosen: Chosen) -> int:
    """Deliveries set aside wait again; with a key also drained ones, of that ticket or with that id.

    A run is nothing to deliveries: with one, none is chosen.
    """
    i = inbox.c
    fits = [i.account_id == account_id]
    if chosen.key:
        number = int(chosen.key) if chosen.key.isdecimal() and len(chosen.key) < 19 else -1
        fits.append(or_(i.ticket_id == number, i.delivery_id == number, i.payload_id == chosen.key))
        fits.append(i.inbox_state.in_(["aside", "drained"]))
    else:
        fits.append(i.inbox_state == "aside")
    if chosen.reason:
        fits.append(_begins(i.reason, chosen.reason))
    fits += [i.received_at >= chosen.since] if chosen.since else []
    fits += [i.received_at <= chosen.until] if chosen.until else []
    if chosen.run:
        return 0
    with ledger.writing() as tx:
        again = update(inbox).where(*fits).values(inbox_state="pending", drained_at=None)
        return tx.execute(again).rowcount
