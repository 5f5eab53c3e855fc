"""What somebody did by hand to our records in Zendesk, told each night, and put right when asked."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, Param

from airflow_provider_qadzd import config
from airflow_provider_qadzd.operators.accounts import AccountsApplyOperator, AccountsPlanOperator, accounts_asset
from airflow_provider_qadzd.operators.drift import DriftRepairOperator, ZendeskLookOperator

DOC = """
**For** whoever wonders why a Zendesk record is not as QAD says.

**Tells** what was edited, deleted, merged, given another external id, moved to another organization, or is there
twice: in the log of `look`, in the audit where it is news, and by `airflow qadzd drift`.

**Changes** nothing in Zendesk, unless it is triggered with `repair`. Then the usual plan, with its usual brake and
rules of ownership, decides what to write; users that were deleted stay deleted, and duplicates are for a person to
merge.

**When red:** the failed task's last log line says what happened and what to do next. Any task may be cleared at any
time; a look goes on where it was stopped.
"""

for flow in config.flows():
    with DAG(
        dag_id=f"qadzd_reconcile{flow.suffix}",
        description=f"{flow.zendesk}: differences from what {flow.qad} says",
        schedule=config.option("reconcile_schedule"),
        start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
        params={
            "repair": Param(False, type="boolean", description="put right what the rules of ownership let us"),
            "release_brake": Param(False, type="boolean", description="let this one run change more than the brake"),
        },
        doc_md=DOC,
        tags=["qadzd"],
    ):
        look = ZendeskLookOperator(task_id="look", flow=flow.name)
        repair = DriftRepairOperator(task_id="repair", flow=flow.name, repair="{{ params.repair }}")
        plan = AccountsPlanOperator(task_id="plan", flow=flow.name, release_brake="{{ params.release_brake }}")
        apply = AccountsApplyOperator(
            task_id="apply",
            flow=flow.name,
            plan_id="{{ ti.xcom_pull(task_ids='plan')['plan_id'] }}",
            outlets=[accounts_asset(flow.name)],
        )
        look >> repair >> plan >> apply
