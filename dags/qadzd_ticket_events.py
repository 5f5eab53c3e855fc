"""Ticket changes within seconds: woken while webhook deliveries wait, it fetches the tickets they name."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_qadzd import config
from airflow_provider_qadzd.operators.tickets import ZendeskDrainOperator
from airflow_provider_qadzd.triggers.zendesk import DeliveriesPending

DOC = """
**For** whoever waits for ticket changes; other DAGs wait with `ZendeskEventSensor`.

**Changes** only the ledger. An asset event merely wakes this DAG; what is to be done stands in the ledger's inbox,
and a run drains all of it, so a lost or doubled wake-up does no harm. It may be triggered by hand.

**When red:** deliveries stay in the inbox until a run succeeds; clear the task once the cause is mended.
"""

for flow in config.flows():
    watcher = AssetWatcher(name=f"qadzd_deliveries_{flow.name}", trigger=DeliveriesPending(flow.zendesk))
    with DAG(
        dag_id=f"qadzd_ticket_events{flow.suffix}",
        description=f"{flow.zendesk}: drain the webhook inbox",
        schedule=[
            Asset(name=f"qadzd_deliveries_{flow.name}", uri=f"qadzd://deliveries/{flow.name}", watchers=[watcher])
        ],
        start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 5, "retry_delay": timedelta(seconds=20)},
        doc_md=DOC,
        tags=["qadzd"],
    ):
        ZendeskDrainOperator(task_id="drain", flow=flow.name)
