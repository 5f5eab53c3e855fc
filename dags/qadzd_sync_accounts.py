"""QAD customers and contacts into Zendesk organizations and users, every few minutes."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, Param

from airflow_provider_qadzd import config
from airflow_provider_qadzd.operators.accounts import (
    AccountsApplyOperator,
    AccountsPlanOperator,
    QadCollectOperator,
    ZendeskMirrorOperator,
    accounts_asset,
)

DOC = """
**For** whoever looks after the alignment of QAD accounts with Zendesk.

**Changes** Zendesk organizations, users and memberships, and never an agent or admin.
A run that finds nothing to change writes nothing and says so.

**Dry run:** trigger it with `mode` = `dry_run`; the plan task's log and return value say what it would do.

**When red:** the failed task's last log line says what happened, to which record, and what to do next.
`plan` red with *UnsafePlan*: look at the counts; if they are right, trigger once with `release_brake`.
Any task may be cleared at any time.
"""

for flow in config.flows():
    with DAG(
        dag_id=f"qadzd_sync_accounts{flow.suffix}",
        description=f"{flow.qad} to {flow.zendesk}: organizations, users, memberships",
        schedule=config.option("accounts_schedule"),
        start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
        params={
            "mode": Param("apply", enum=["apply", "dry_run"], description="apply, or only show the plan"),
            "full": Param(False, type="boolean", description="read all of QAD, not only what was changed lately"),
            "release_brake": Param(False, type="boolean", description="let this one run change more than the brake"),
        },
        doc_md=DOC,
        tags=["qadzd"],
    ):
        collect = QadCollectOperator(
            task_id="collect",
            flow=flow.name,
            full="{{ params.full }}",
            release_brake="{{ params.release_brake }}",
        )
        mirror = ZendeskMirrorOperator(task_id="mirror", flow=flow.name)
        plan = AccountsPlanOperator(
            task_id="plan",
            flow=flow.name,
            mode="{{ params.mode }}",
            release_brake="{{ params.release_brake }}",
        )
        apply = AccountsApplyOperator(
            task_id="apply",
            flow=flow.name,
            plan_id="{{ ti.xcom_pull(task_ids='plan')['plan_id'] }}",
            outlets=[accounts_asset(flow.name)],
        )
        [collect, mirror] >> plan >> apply
