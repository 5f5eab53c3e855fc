"""Decide again what came to nothing: by key, reason, run or time."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, Param

from airflow_provider_qadzd import config
from airflow_provider_qadzd.operators.accounts import (
    AccountsApplyOperator,
    AccountsPlanOperator,
    ZendeskMirrorOperator,
    accounts_asset,
)
from airflow_provider_qadzd.operators.audit import ReplayOperator
from airflow_provider_qadzd.operators.tickets import ZendeskDrainOperator

DOC = """
**For** whoever has mended what kept records or deliveries out, and will not wait for tomorrow.
`airflow qadzd why` says what is out, and for which reason.

**Changes** what `qadzd_sync_accounts` and `qadzd_ticket_events` would: the chosen records are decided again from what
is wanted and there *now*, beside all else that a run finds to do; a stored body is never sent.
Fill in one field at least; all that are filled in must fit.

**When red:** *Nothing says what to replay*: fill in a field. Else as in `qadzd_sync_accounts`; any task may be cleared.
"""


def text(description: str) -> Param:
    """A field of the form that may stay empty."""
    return Param(None, type=["null", "string"], description=description)


for flow in config.flows():
    with DAG(
        dag_id=f"qadzd_replay{flow.suffix}",
        description=f"{flow.qad} to {flow.zendesk}: decide again what came to nothing",
        schedule=None,
        start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
        params={
            "key": text("A customer or contact key, a ticket id or a delivery id; failed or not"),
            "reason": text("What came to nothing for a reason that begins so, as `airflow qadzd why` tells it"),
            "run": text("What came to nothing in this run: DAG id/run id"),
            "since": text("What came to nothing from this time on (ISO 8601, UTC)"),
            "until": text("What came to nothing up to this time (ISO 8601, UTC)"),
        },
        doc_md=DOC,
        tags=["qadzd"],
    ):
        replay = ReplayOperator(
            task_id="replay",
            flow=flow.name,
            key="{{ params.key }}",
            reason="{{ params.reason }}",
            run="{{ params.run }}",
            since="{{ params.since }}",
            until="{{ params.until }}",
        )
        mirror = ZendeskMirrorOperator(task_id="mirror", flow=flow.name)
        plan = AccountsPlanOperator(task_id="plan", flow=flow.name)
        apply = AccountsApplyOperator(
            task_id="apply",
            flow=flow.name,
            plan_id="{{ ti.xcom_pull(task_ids='plan')['plan_id'] }}",
            outlets=[accounts_asset(flow.name)],
        )
        replay >> mirror >> plan >> apply
        replay >> ZendeskDrainOperator(task_id="drain", flow=flow.name)
