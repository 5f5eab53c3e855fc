"""The outward journey as it grows: a first load, a run without changes, one with few, and one whose calls fail.

Each measured run is a process of its own, so that its peak memory is its own. QAD is read in full each time, which is
the dearest way; a delta costs a call.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import requests
from sqlalchemy import select

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger import Ledger, schema
from airflow_provider_qadzd.records import fold
from airflow_provider_qadzd.sync.apply import Applier, Waiting
from airflow_provider_qadzd.sync.collect import collect
from airflow_provider_qadzd.sync.draft import draft_plan
from airflow_provider_qadzd.sync.mapping import Rules
from airflow_provider_qadzd.sync.mirror import refresh_mirror
from airflow_provider_qadzd.sync.plan import Brake
from tests.bench.measures import Measure, peak_memory, timed
from tests.bench.wiring import KEY, Sandbox, Wired, ledgers, make_fields, sandbox

SMALL, LARGE, FAILING = (10_000, 25_000), (100_000, 250_000), (1_000, 2_500)
DEAREST_LOAD, DEAREST_CHANGE = 40, 60
"""Zendesk calls for 1,000 records: of a first load, of those that changed."""
QUIET_CALLS, QUIET_RATE, QUIET_MEMORY, GROWTH = 5, 6_000, 1.3, 11
CHANGED = 0.001
PAUSE = 600.0
"""Seconds by Zendesk's clock between two runs, so that its exports tell what the one before has written."""
BEHIND = 3_000.0
EVERY = 20
"""Each so-manieth call of Zendesk fails, in one of five ways in turn: one in twenty of all."""
FAULTS: tuple[Mapping[str, Any], ...] = (
    {"status": 500},
    {"status": 503, "retry_after": "1"},
    {"status": 429, "retry_after": "1"},
    {"action": "drop", "after_effect": True},
    {"action": "reset-after"},
)
T = TypeVar("T")
DONE = ("created", "updated", "adopted", "unchanged")


def measure() -> list[Measure]:
    """All of it on both databases."""
    found = []
    for name in ("SQLite", "PostgreSQL"):
        small = _grown(f"10,000 + 25,000 accounts on {name}", name, SMALL)
        large = _grown(f"100,000 + 250,000 accounts on {name}", name, LARGE)
        case = f"Accounts as they grow on {name}"
        found += [*small.measures, *large.measures]
        found += [
            Measure(case, "time of a quiet run, large over small", large.seconds / small.seconds, "ratio", GROWTH),
            Measure(case, "time of the first load, large over small", large.loading / small.loading, "ratio", GROWTH),
            Measure(case, "peak memory of a quiet run, large over small", large.rss / small.rss, "ratio", QUIET_MEMORY),
        ]
        found += _failing(f"5 % of calls failing on {name}", name)
    return found


@dataclass(frozen=True)
class Grown:
    """What one size took; `seconds` and `rss` (MiB) are those of the run that finds nothing to do."""

    measures: list[Measure]
    loading: float
    seconds: float
    rss: float


@dataclass(frozen=True)
class Ran:
    """One run. `seconds` are from the first page of QAD to the printed plan, `whole` to the end of applying it."""

    seconds: float
    whole: float
    rss: float
    changes: int


def _grown(case: str, database: str, size: tuple[int, int]) -> Grown:
    records = sum(size)
    with TemporaryDirectory() as folder, ledgers(Path(folder)) as opened:
        ledger = opened[database]
        with sandbox(*size, behind=BEHIND) as served:
            wired = Wired(served, ledger)
            wired.learn_limits()
            make_fields(wired)
            loaded, calls, _ = _run(served, ledger)
            _run(served, ledger)  # what the load wrote comes back through the exports
            quiet, quiet_calls, quiet_writes = _run(served, ledger)
            changed = _change(served, ledger)
            _, change_calls, _ = _run(served, ledger)
    measures = [
        Measure(case, "calls of the first load", calls / records * 1000, "per 1,000 records", DEAREST_LOAD),
        Measure(case, "first load", records / loaded.whole, "records/s"),
        Measure(case, "writes of a quiet run", quiet_writes + quiet.changes, "writes", 0),
        Measure(case, "calls of a quiet run", quiet_calls, "calls", QUIET_CALLS),
        Measure(case, "quiet run, to the plan", records / quiet.seconds, "records/s", QUIET_RATE, at_least=True),
        Measure(case, "peak memory of a quiet run", quiet.rss, "MiB"),
        # Of a few changes the calls that every run makes are most, so that this is told of many only.
        Measure(
            case,
            "calls where 0.1 % changed",
            change_calls / changed * 1000,
            "per 1,000 changed",
            DEAREST_CHANGE if size == LARGE else None,
        ),
    ]
    return Grown(measures, loaded.whole, quiet.seconds, quiet.rss)


def _run(served: Sandbox, ledger: Ledger) -> tuple[Ran, int, int]:
    """One run in a process of its own; its Zendesk calls and writes."""
    served.post("clock", {"advance": PAUSE})
    served.post("reset-stats")
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1) as pool:
        url = ledger.engine.url.render_as_string(hide_password=False)
        ran = pool.apply(_run_here, (served.url, url, KEY))
    stats = served.stats()
    calls = sum(count for pattern, count in stats["calls"].items() if " /api/v2/" in pattern)
    return ran, calls, int(stats["zendesk_writes"])


def _run_here(url: str, ledger_url: str, key: str) -> Ran:
    wired = Wired(Sandbox(url), Ledger(ledger_url), key)
    with timed() as whole:
        with timed() as watch:
            plan_id, changes = _planned(wired)
        applier = Applier(wired.ledger, wired.flow, wired.zendesk, "bench", plan_id)
        while isinstance(applier.step(), Waiting):
            time.sleep(0.01)
    wired.ledger.engine.dispose()
    return Ran(watch.seconds, whole.seconds, peak_memory(), changes)


def _planned(wired: Wired) -> tuple[int, int]:
    collect(wired.ledger, wired.source_id, wired.qad, "bench", full=True)
    refresh_mirror(wired.ledger, wired.account.account_id, wired.zendesk)
    plan = draft_plan(wired.ledger, wired.flow, Rules(), "bench", Brake.released())
    print(f"  {plan.summary()}", flush=True)
    return plan.plan_id, plan.changes


def _change(served: Sandbox, ledger: Ledger) -> int:
    """Every thousandth customer moves and every thousandth contact has another function. How many."""
    r = schema.qad_record.c
    with ledger.reading() as tx:
        keys = {
            kind: tx.execute(select(r.record_key).where(r.kind == kind).order_by(r.record_key)).scalars().all()
            for kind in ("customer", "contact")
        }
    some = {kind: found[:: round(1 / CHANGED)] for kind, found in keys.items()}
    for code in some["customer"]:
        served.post("customers", {"code": code, "city": "Elsewhere"})
    for contact in some["contact"]:
        served.post("contacts", {"id": int(contact), "function": "Chief buyer"})
    return sum(map(len, some.values()))


# -- calls that fail ---------------------------------------------------------------------------------------------------


class Hurried:
    """A clock that does not wait: the time goes on here and in the sandbox instead."""

    def __init__(self, served: Sandbox, behind: float) -> None:
        self.served, self.offset = served, -behind

    def time(self) -> float:
        return time.time() + self.offset

    def sleep(self, seconds: float) -> None:
        self.offset += seconds
        self.served.post("clock", {"advance": seconds})


def _failing(case: str, database: str) -> list[Measure]:
    with TemporaryDirectory() as folder, ledgers(Path(folder)) as opened:
        url = opened[database].engine.url.render_as_string(hide_password=False)
        with sandbox(*FAILING, behind=BEHIND) as served:
            clock = Hurried(served, BEHIND)
            wired = Wired(served, Ledger(url, clock))
            wired.learn_limits()
            make_fields(wired)
            served.post("settings", {"bulk_import": False})
            served.post("reset-stats")
            for number, fault in enumerate(FAULTS):
                served.post(
                    "faults",
                    {"match": "* /api/v2/*", "times": None, "every": EVERY * len(FAULTS), "skip": EVERY * number}
                    | dict(fault),
                )
            tries = _loaded(wired, clock)
            calls = sum(count for pattern, count in served.stats()["calls"].items() if " /api/v2/" in pattern)
            wrong, twice = _compared(wired, served)
            wired.ledger.engine.dispose()
    return [
        Measure(case, "rows reported done that are not", wrong, "rows", 0),
        Measure(case, "rows done twice", twice, "rows", 0),
        Measure(case, "tasks that were tried again", tries, "tries"),
        Measure(case, "calls", calls, "calls"),
    ]


def _loaded(wired: Wired, clock: Hurried) -> int:
    """Runs, each of whose tasks is tried again after a TryLater as Airflow does, until one finds nothing to do.

    How often a task was tried again.
    """
    again = 0
    for _ in range(20):
        (plan_id, changes), tries = _through(clock, partial(_planned, wired))
        again += tries
        if not changes:
            return again
        _, tries = _through(clock, partial(_applied, wired, clock, plan_id))
        again += tries
        clock.sleep(PAUSE)
    raise RuntimeError("there is always something left to do")


def _applied(wired: Wired, clock: Hurried, plan_id: int) -> None:
    applier = Applier(wired.ledger, wired.flow, wired.zendesk, "bench", plan_id, hands=1)
    while isinstance(state := applier.step(), Waiting):
        clock.sleep(max(1.0, state.until - clock.time()))


def _through(clock: Hurried, work: Callable[[], T]) -> tuple[T, int]:
    """What the work comes to, and how often it was tried again."""
    for tries in range(200):
        try:
            return work(), tries
        except TryLater as error:
            clock.sleep(error.wait)
    raise RuntimeError("it does not come to an end")


def _compared(wired: Wired, served: Sandbox) -> tuple[int, int]:
    """Rows of the ledger that claim what Zendesk does not have, and records and memberships that are there twice."""
    inside = requests.get(f"{served.url}/_sandbox/state", timeout=600).json()
    there = {
        kind: {fold(row["external_id"]): row for row in inside[f"{kind}s"] if row["external_id"]}
        for kind in ("organization", "user")
    }
    keyed = sum(bool(row["external_id"]) for kind in ("organizations", "users") for row in inside[kind])
    pairs = [(row["user_id"], row["organization_id"]) for row in inside["organization_memberships"]]
    wanted, link = schema.wanted.c, schema.link.c
    with wired.ledger.reading() as tx:
        rows = tx.execute(select(wanted.kind, wanted.external_folded, wanted.body, wanted.last_outcome)).all()
        links = tx.execute(select(link.kind, link.record_key, link.other_key, link.zendesk_id)).all()
    wrong = sum(
        row.last_outcome in DONE and not _is_there(there[row.kind].get(row.external_folded), row.body) for row in rows
    )
    ids = {(one.kind, one.record_key): one.zendesk_id for one in links}
    claimed = [
        (ids.get(("user", one.record_key)), ids.get(("organization", one.other_key)))
        for one in links
        if one.kind == "membership"
    ]
    wrong += len(set(claimed) - set(pairs))
    twice = keyed - sum(map(len, there.values())) + len(pairs) - len(set(pairs)) + len(claimed) - len(set(claimed))
    names = [fold(row["name"]) for row in inside["organizations"]]
    return wrong, twice + len(names) - len(set(names))


def _is_there(found: Mapping[str, Any] | None, body: Mapping[str, Any]) -> bool:
    """Whether Zendesk's record has the custom fields that are wanted: nobody else writes them here."""
    if found is None:
        return False
    for name, value in body.items():
        group, _, key = name.partition(".")
        if key and (found[group].get(key) or None) != (value or None):
            return False
    return True
