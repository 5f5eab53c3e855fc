"""What is not in Zendesk as it should be, record by record, and which known keys are like one that nobody knows.

Nothing here writes; memory stays flat however many records there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Select, and_, case, exists, func, literal, or_, select

from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import change_item, link, wanted
from airflow_provider_qadzd.ledger.store import Ledger
from airflow_provider_qadzd.ledger.stories import PAIRS, WRITTEN_AS, flows_named
from airflow_provider_qadzd.records import FAILED

_PAGE = 5000


def troubled(ledger: Ledger, flow_name: str | None = None) -> Iterator[tuple[str, str, str, str, str]]:
    """(flow, kind, outcome, detail, key) of every record that is not in Zendesk as it should be, a page at a time.

    That is: whatever has no record of its own or failed last, and memberships and addresses that were set aside.
    """
    with ledger.reading() as tx:
        flows = flows_named(tx, flow_name)
    for one in flows:
        for kind in WRITTEN_AS.values():
            after = ""
            while True:
                with ledger.reading() as tx:
                    page = tx.execute(_troubled_records(one, kind, after)).all()
                yield from ((one.name, kind, row.outcome, row.detail, row.record_key) for row in page)
                if len(page) < _PAGE:
                    break
                after = page[-1].record_key
        with ledger.reading() as tx:
            pairs = tx.execute(_troubled_pairs(one)).all()
        yield from ((one.name, row.kind, "set_aside", row.reason, f"{row.record_key}/{row.other_key}") for row in pairs)


def _troubled_records(one: Flow, kind: str, after: str) -> Select[Any]:
    w = wanted.c
    its_link = and_(
        link.c.flow_id == w.flow_id, link.c.kind == w.kind, link.c.record_key == w.record_key, link.c.other_key == ""
    )
    outcome = case((w.aside != "", literal("set_aside")), else_=w.last_outcome)
    detail = case((w.aside != "", w.aside), else_=w.last_detail)
    return (
        select(w.record_key, outcome.label("outcome"), detail.label("detail"))
        .select_from(wanted.outerjoin(link, its_link))
        .where(w.flow_id == one.flow_id, w.kind == kind, w.record_key > after)
        .where(or_(link.c.record_key.is_(None), w.aside != "", w.last_outcome.in_(FAILED)))
        .order_by(w.record_key)
        .limit(_PAGE)
    )


def _troubled_pairs(one: Flow) -> Select[Any]:
    """The last word on each membership and address that was refused and has no link."""
    c, linked = change_item.c, link.alias("linked")
    last = (
        select(func.max(c.change_id))
        .where(c.flow_id == one.flow_id, c.kind.in_(PAIRS), c.change_state == "done", c.outcome == "set_aside")
        .group_by(c.kind, c.record_key, c.other_key)
    )
    there = (
        linked.c.flow_id == c.flow_id, linked.c.kind == c.kind, linked.c.record_key == c.record_key,
        linked.c.other_key == c.other_key,
    )  # fmt: skip
    return (
        select(c.kind, c.record_key, c.other_key, c.reason)
        .where(c.change_id.in_(last), ~exists().where(*there))
        .order_by(c.kind, c.record_key, c.other_key)
    )


def near_keys(ledger: Ledger, key: str, flow_name: str | None, words: Sequence[str]) -> list[str]:
    """Keys that begin as `key` does, or whose name, email or external id is one of the folded `words`.

    A few hundred at most, to choose the nearest from.
    """
    w = wanted.c
    starts = {spelt[: max(1, len(key) - cut)] for spelt in (key, key.upper(), key.lower()) for cut in (1, 2, 4)}
    found: dict[str, None] = {}
    with ledger.reading() as tx:
        for one in flows_named(tx, flow_name):
            for kind in WRITTEN_AS.values():
                mine = (w.flow_id == one.flow_id, w.kind == kind)
                named = [w[name].in_(words) for name in ("name_folded", "email_folded", "external_folded")]
                begun = [and_(w.record_key >= start, w.record_key < f"{start}\U0010ffff") for start in sorted(starts)]
                for like in (*named, *begun):
                    found.update(
                        dict.fromkeys(tx.execute(select(w.record_key).where(*mine, like).limit(100)).scalars())
                    )
    return list(found)
