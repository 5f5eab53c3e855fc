"""The outward journey: a first load in bulk, and a second run that finds nothing to do."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_provider_qadzd.sync.apply import Applier, Waiting
from airflow_provider_qadzd.sync.collect import collect
from airflow_provider_qadzd.sync.draft import draft_plan
from airflow_provider_qadzd.sync.mapping import ORGANIZATION_FIELDS, USER_FIELDS, Rules
from airflow_provider_qadzd.sync.mirror import refresh_mirror
from airflow_provider_qadzd.sync.plan import Brake
from tests.bench.measures import Measure, timed
from tests.bench.wiring import Sandbox, Wired, ledgers, sandbox

CUSTOMERS, CONTACTS = 2_000, 5_000
RECORDS = CUSTOMERS + CONTACTS
CALLS_PER_THOUSAND = 40
PAUSE = 600.0
"""Seconds between the two runs by Zendesk's clock, so that its exports tell what the first run has written."""
ALL = Brake(share=1.0)


def measure() -> list[Measure]:
    """Calls, writes and time of two runs, with bulk import on and no limits in the way."""
    found = []
    with TemporaryDirectory() as folder, ledgers(Path(folder)) as opened:
        for name, ledger in opened.items():
            with sandbox(CUSTOMERS, CONTACTS, behind=PAUSE) as served:
                found += _two_runs(f"Accounts on {name}", Wired(served, ledger))
    return found


def _two_runs(case: str, wired: Wired) -> list[Measure]:
    wired.learn_limits()
    make_fields(wired)
    with timed() as first:
        wired.sandbox.post("reset-stats")
        _run(wired, "first")
    loaded = _calls(wired.sandbox)
    wired.sandbox.post("clock", {"advance": PAUSE})
    with timed() as second:
        wired.sandbox.post("reset-stats")
        _run(wired, "second")
    writes = wired.sandbox.stats()["zendesk_writes"]
    return [
        Measure(case, "calls of the first load", loaded / RECORDS * 1000, "per 1,000 records", CALLS_PER_THOUSAND),
        Measure(case, "first load", RECORDS / first.seconds, "records/s"),
        Measure(case, "writes of the second run", writes, "writes", 0),
        Measure(case, "calls of the second run", _calls(wired.sandbox), "calls"),
        Measure(case, "second run", second.seconds, "s"),
    ]


def make_fields(wired: Wired) -> None:
    """What onboarding makes in Zendesk, and what must be there before the first load."""
    fields = wired.zendesk.fields
    for key, title in ORGANIZATION_FIELDS.items():
        fields.create_organization_field({"key": key, "title": title, "type": "text"})
    for key, title in USER_FIELDS.items():
        fields.create_user_field({"key": key, "title": title, "type": "text"})


def _run(wired: Wired, run: str) -> None:
    """What the DAG's tasks do. Jobs end at once here, so the pauses between looks at them are left out."""
    collect(wired.ledger, wired.source_id, wired.qad, run, full=True)
    refresh_mirror(wired.ledger, wired.account.account_id, wired.zendesk)
    plan = draft_plan(wired.ledger, wired.flow, Rules(), run, ALL)
    applier = Applier(wired.ledger, wired.flow, wired.zendesk, run, plan.plan_id)
    while isinstance(applier.step(), Waiting):
        time.sleep(0.01)


def _calls(served: Sandbox) -> int:
    calls: dict[str, int] = served.stats()["calls"]
    return sum(count for pattern, count in calls.items() if " /api/v2/" in pattern)
