"""Eight processes spend one Zendesk account's calls at once, in virtual time, with every limit enforced."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger import Ledger, exports, tickets
from airflow_provider_qadzd.sync.apply import Applier, Done
from airflow_provider_qadzd.sync.collect import collect
from airflow_provider_qadzd.sync.draft import draft_plan
from airflow_provider_qadzd.sync.export import EVENTS, TICKETS, Run, export_live, export_window
from airflow_provider_qadzd.sync.mapping import Rules
from airflow_provider_qadzd.sync.mirror import refresh_mirror
from airflow_provider_qadzd.sync.plan import Brake
from airflow_provider_qadzd.sync.receive import drain
from tests.bench.measures import Measure, timed
from tests.bench.virtual import ProcessClock, Times, spawning
from tests.bench.wiring import KEY, Sandbox, Wired, ledgers, make_fields, sandbox

CUSTOMERS, CONTACTS, TICKETS_THERE = 6_000, 14_000, 3_000
SHARE, EXPORTS = 0.7, 10
JOB_DELAY = 5.0
OF_ALLOWED = 1.25
_DAY = 86_400.0
_SEEDED = "Walk-in enquiries"
"""An organization that the sandbox has from the start."""


def measure() -> list[Measure]:
    """A first load beside seven others that read, drain and export, where the limit of calls is what holds it up.

    By jobs on a small plan, since few calls make many records; user by user, with bulk import off, on a larger one.
    """
    found = []
    with TemporaryDirectory() as folder, ledgers(Path(folder)) as opened:
        for name, ledger in opened.items():
            found += _spent(f"Pace of eight processes on {name}, 20,000 records by jobs", ledger, 200, bulk=True)
    with TemporaryDirectory() as folder, ledgers(Path(folder)) as opened:
        case = "Pace of eight processes on PostgreSQL, 14,000 of 20,000 records singly"
        found += _spent(case, opened["PostgreSQL"], 700, bulk=False)
    return found


Part = Callable[["Stage", Wired], float]
"""What a process does once; how many seconds until it does it again."""


@dataclass(frozen=True)
class Stage:
    """What every process is given."""

    url: str
    ledger_url: str
    times: Times
    over: Any
    key: str
    users: Sequence[int]


def _spent(case: str, ledger: Ledger, limit: int, *, bulk: bool) -> list[Measure]:
    spawn = spawning()
    with sandbox(CUSTOMERS, CONTACTS, TICKETS_THERE) as served:
        served.post("settings", {"job_delay": JOB_DELAY, "bulk_import": bulk})
        wired = Wired(served, ledger)
        make_fields(wired)
        begun = time.time() - _DAY
        for leg in (TICKETS, EVENTS):
            exports.start_once(ledger, wired.account.account_id, leg, exports.start_position(begun))
        _ = wired.flow
        users = [int(wired.zendesk.users.create({"name": f"User {number}"})["id"]) for number in range(40)]
        limits = {"requests_per_minute": limit, "incremental_per_minute": EXPORTS, "user_updates_per_second": 1}
        served.post("limits", {**limits, "jobs_in_flight": 30})
        served.post("reset-stats")
        times = Times(served.url, len(ROLES), spawn)
        url = ledger.engine.url.render_as_string(hide_password=False)
        stage = Stage(served.url, url, times, spawn.Event(), KEY, users)
        ends, started = spawn.SimpleQueue(), float(times.now.value)
        processes = [spawn.Process(target=_work, args=(stage, index, ends)) for index in range(len(ROLES))]
        with timed() as wall:
            for process in processes:
                process.start()
            ended, stats = _until_applied(ends)
            for process in processes:
                process.join(120)
    calls = {pattern: count for pattern, count in stats["calls"].items() if " /api/v2/" in pattern}
    allowed = sum(calls.values()) / (limit * SHARE) * 60
    late = [at for at, _ in stats["refusals"] if at > started + 60]
    return [
        Measure(case, "time over the time that the budget allows", (ended - started) / allowed, "ratio", OF_ALLOWED),
        Measure(case, "429 after the first minute", len(late), "answers", 0),
        Measure(case, "429 in the first minute", len(stats["refusals"]) - len(late), "answers"),
        Measure(case, "calls by all", sum(calls.values()), "calls"),
        Measure(case, "of them exports", sum(n for one, n in calls.items() if "/incremental/" in one), "calls"),
        Measure(case, "of them updates of one user", calls.get("PUT /api/v2/users/{id:int}", 0), "calls"),
        Measure(case, "virtual time", (ended - started) / 60, "minutes"),
        Measure(case, "real time", wall.seconds, "s"),
    ]


def _until_applied(ends: Any) -> tuple[float, dict[str, Any]]:
    told = ends.get()
    if isinstance(told, str):
        raise RuntimeError(told)
    ended, stats = told
    return float(ended), dict(stats)


def _work(stage: Stage, index: int, ends: Any) -> None:
    """One process: its part until the sync is over. The applier tells the end, or what went wrong."""
    clock = ProcessClock(stage.times, index)
    wired = Wired(Sandbox(stage.url), Ledger(stage.ledger_url, clock), stage.key)
    part: Part = ROLES[index]
    try:
        if part is _apply:
            _apply(stage, wired)
            ends.put((clock.time(), wired.sandbox.stats()))
            stage.over.set()
        while not stage.over.is_set():
            clock.sleep(_in_time(wired, partial(part, stage)))
    except Exception as error:
        ends.put(f"{part.__name__}: {error!r}")
        raise
    finally:
        stage.over.set()
        clock.end()
        wired.ledger.engine.dispose()


def _in_time(wired: Wired, part: Callable[[Wired], float]) -> float:
    """Do the part once; how long until the next time."""
    try:
        return part(wired)
    except TryLater as busy:
        return busy.wait


def _apply(_stage: Stage, wired: Wired) -> float:
    """The whole sync, as the DAG's tasks do it."""
    clock = wired.ledger.clock
    collect(wired.ledger, wired.source_id, wired.qad, "run")
    while wait := _in_time(wired, lambda one: refresh_mirror(one.ledger, one.account.account_id, one.zendesk) and 0.0):
        clock.sleep(wait)
    plan = draft_plan(wired.ledger, wired.flow, Rules(), "run", Brake(share=1.0))
    applier = Applier(wired.ledger, wired.flow, wired.zendesk, "run", plan.plan_id, hands=1)
    while not isinstance(state := applier.step(), Done):
        clock.sleep(max(0.0, state.until - clock.time()))
    wrong = [one for counts in state.report["outcomes"].values() for one in counts if one in ("postponed", "failed")]
    if wrong:
        raise RuntimeError(f"the sync left {wrong}")
    return 0.0


def _read_live(_stage: Stage, wired: Wired) -> float:
    run = Run("export", str(wired.ledger.clock.time()))
    export_live(wired.ledger, wired.account.account_id, wired.zendesk, run)
    return 600.0


def _read_history(_stage: Stage, wired: Wired) -> float:
    """A backfill: one past day after another, as fast as it may."""
    day = wired.ledger.clock.time() // 10 % 300
    start = (wired.ledger.clock.time() // _DAY - day - 2) * _DAY
    export_window(wired.ledger, wired.account.account_id, wired.zendesk, start, start + _DAY)
    return 10.0


def _read_mirror(_stage: Stage, wired: Wired) -> float:
    refresh_mirror(wired.ledger, wired.account.account_id, wired.zendesk)
    return 300.0


def _drain(_stage: Stage, wired: Wired) -> float:
    """Twenty deliveries every ten seconds."""
    now = int(wired.ledger.clock.time())
    for number in range(20):
        delivery = {
            "account_id": wired.account.account_id, "payload_id": f"{now}-{number}", "signature": f"{now}-{number}",
            "body": b"{}", "kind": "updated", "ticket_id": 1 + (now + number) % TICKETS_THERE,
        }  # fmt: skip
        tickets.store_delivery(wired.ledger, delivery)
    drain(wired.ledger, wired.account.account_id, wired.zendesk)
    return 10.0


def _update_users(stage: Stage, wired: Wired) -> float:
    """Somebody's single updates of users, which have a limit of their own."""
    for user in stage.users:
        wired.zendesk.users.update(user, {"notes": f"seen at {wired.ledger.clock.time():.0f}"})
    return 30.0


def _read_memberships(_stage: Stage, wired: Wired) -> float:
    """A reader of another flow: who is where."""
    for organization in wired.zendesk.organizations.search(name=_SEEDED):
        wired.zendesk.memberships.of_organization(int(organization["id"]))
    wired.zendesk.jobs.list_open()
    return 5.0


ROLES: tuple[Part, ...] = (
    _apply, _read_live, _read_history, _read_mirror, _drain, _update_users, _update_users, _read_memberships,
)  # fmt: skip
"""What each of the eight processes does."""
