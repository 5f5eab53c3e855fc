"""Long waits give the worker's slot back: for jobs that run in Zendesk, and where its calls are used up."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from typing import Any

import pytest
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider_qadzd import config
from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
from airflow_provider_qadzd.ledger.budget import LedgerBudget
from airflow_provider_qadzd.operators.accounts import ZendeskMirrorOperator
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.triggers.zendesk_jobs import JobsEnd
from tests.edge.test_dags import NO_TEST_DELIVERY, dags, returned, run
from tests.edge.test_sensor_and_triggers import first_of

__all__ = ["dags"]


@pytest.mark.usefixtures("airflow_database")
def test_apply_waits_for_its_jobs_without_a_slot(
    dags: dict[str, DAG], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Jobs that outlast the wait in place are waited for in the triggerer, and read to their end afterwards."""
    monkeypatch.setattr(config, "number", lambda name, known=config.number: 0 if "in_place" in name else known(name))
    run(dags["qadzd_onboard"], run_conf=NO_TEST_DELIVERY)
    sandbox.post_control("settings", {"job_delay": 2})
    report = returned(run(dags["qadzd_sync_accounts"]), "apply")
    assert "jobs run in Zendesk; this task gives its slot back" in capfd.readouterr().out
    assert sum(report["outcomes"]["organization"].values()) == 40
    assert "postponed" not in report["outcomes"]["user"]


def test_the_jobs_trigger_fires_once_no_job_runs(sandbox: Sandbox) -> None:
    """While one of them runs it waits; a job that Zendesk does not know any more counts as ended."""
    sandbox.post_control("clock", {"frozen": True})
    sandbox.post_control("settings", {"job_delay": 10})
    job = ZendeskHook().client.organizations.create_many([{"name": "Acme"}])
    path, given = JobsEnd("zendesk_default", [job.id, "V3-gone"], pause=0.05).serialize()
    assert path == "airflow_provider_qadzd.triggers.zendesk_jobs.JobsEnd"
    assert asyncio.run(first_of(JobsEnd(**given), 1.0)) is None
    sandbox.post_control("clock", {"advance": 11})
    assert asyncio.run(first_of(JobsEnd(**given), 5)) is not None


@pytest.mark.parametrize("conn_id", ["zendesk_default", "no_such_connection"])
def test_the_jobs_trigger_ends_whatever_goes_wrong(sandbox: Sandbox, conn_id: str) -> None:
    """Errors are told and waited out; after its patience the task looks for itself."""
    sandbox.post_control("faults", {"match": "GET /api/v2/job_statuses*", "status": 500, "times": None})
    trigger = JobsEnd(conn_id, ["V3-1"], pause=0.05, patience=0.5)
    assert asyncio.run(first_of(trigger, 0.2)) is None
    assert asyncio.run(first_of(trigger, 10)) is not None


def mirrored(so_far: Mapping[str, int] | None = None) -> dict[str, int] | TaskDeferred:
    """What the mirror task returns, or how it defers."""
    given: dict[str, Any] = {} if so_far is None else {"so_far": dict(so_far), "event": None}
    try:
        return ZendeskMirrorOperator(task_id="mirror").execute({}, **given)
    except TaskDeferred as deferred:
        return deferred


def test_a_read_that_uses_up_the_calls_goes_on_later(sandbox: Sandbox, ledger_file: sqlite3.Connection) -> None:
    """No try is lost: the task defers with what it has done, and resumes there."""
    hook = ZendeskHook()
    LedgerBudget(hook.ledger, hook.account.account_id).take("exports", 9)
    deferred = mirrored()
    assert isinstance(deferred, TaskDeferred)
    assert isinstance(deferred.trigger, DateTimeTrigger)
    assert deferred.kwargs is not None
    done = deferred.kwargs["so_far"]
    assert done["organization"] > 0
    assert done["user"] == 0
    ledger_file.execute("DELETE FROM qadzd_rate_budget")
    ledger_file.commit()
    whole = mirrored(done)
    assert isinstance(whole, dict)
    assert whole["organization"] >= done["organization"]
    assert whole["user"] > 0
