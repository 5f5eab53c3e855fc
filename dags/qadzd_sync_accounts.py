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

**Dry run:** trigger it with `mode` = `dry_run`; then *Browse, QAD sync plans* shows every change, as does
`airflow qadzd plan show`.

**Review:** with `[qadzd] mode = approve` each run only plans. Look at the plan there, and press *Approve*.

**When red:** the failed task's last log line says what happened, to which record, and what to do next.
`plan` red with *UnsafePlan*: look at the plan; if it is right, trigger once with `release_brake`.
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
            "mode": Param(
                "configured",
                enum=["configured", "apply", "dry_run", "approve", "apply_reviewed"],
                description="configured: as [qadzd] mode says, and as scheduled runs do; dry_run: only show the plan; "
                "approve: leave it to be reviewed; apply_reviewed: apply the plan plan_id",
            ),
            "full": Param(False, type="boolean", description="read all of QAD, not only what was changed lately"),
            "plan_id": Param(None, type=["null", "integer"], description="apply_reviewed: which plan"),
            "skip_moved": Param(
                False, type="boolean", description="apply_reviewed: leave out what moved since, instead of refusing"
            ),
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
            plan_id="{{ params.plan_id }}",
            skip_moved="{{ params.skip_moved }}",
        )
        apply = AccountsApplyOperator(
            task_id="apply",
            flow=flow.name,
            plan_id="{{ ti.xcom_pull(task_ids='plan')['plan_id'] }}",
            outlets=[accounts_asset(flow.name)],
        )
        [collect, mirror] >> plan >> apply
