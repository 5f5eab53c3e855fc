"""Getting a Zendesk account ready: run it once, and again whenever something may be missing."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, Param

from airflow_provider_qadzd import config
from airflow_provider_qadzd.operators.onboard import ZendeskOnboardOperator

DOC = """
**For** the admin who sets the sync up.

**Changes** in Zendesk: makes the organization and user fields that the sync writes, and the webhook
*QAD ticket events*. In the ledger: its signing secret, encrypted, and where the ticket export starts.
What is there already stays; a second run changes nothing.

**When red:** the message names the missing scope or setting.
"""

for flow in config.flows():
    with DAG(
        dag_id=f"qadzd_onboard{flow.suffix}",
        description=f"{flow.zendesk}: fields, webhook, signing secret, starting point",
        schedule=None,
        start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 2, "retry_delay": timedelta(seconds=20)},
        params={
            "receiver_url": Param(
                "", type="string", description="Where Zendesk reaches the receiver; empty: [qadzd] receiver_url"
            )
        },
        doc_md=DOC,
        tags=["qadzd"],
    ):
        ZendeskOnboardOperator(task_id="onboard", flow=flow.name, receiver_url="{{ params.receiver_url }}")
