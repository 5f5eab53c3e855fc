"""The live ticket export: the backstop for webhooks that never came."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from airflow_provider_qadzd import config
from airflow_provider_qadzd.operators.tickets import ZendeskExportTicketsOperator, ZendeskTicketOrganizationsOperator

DOC = """
**For** whoever relies on tickets being tied to their QAD customers.

**Changes** the ledger: ticket states, their customers, their history.
It goes on from its own cursor, so downtime loses nothing and a single run catches up.
Where `qadzd_onboard` was told to, `organizations` then gives open tickets that have no organization that of their
customer in Zendesk, and names the triggers that this may fire. Nothing else is written there.

**When red:** a budget used up or Zendesk being away heals by itself; *no starting point* means that
`qadzd_onboard` has not run. A cleared run reads the same stretch again and moves nothing.
"""

for flow in config.flows():
    with DAG(
        dag_id=f"qadzd_export_tickets{flow.suffix}",
        description=f"{flow.zendesk}: ticket states and history since the last run",
        schedule=config.option("export_schedule"),
        start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
        doc_md=DOC,
        tags=["qadzd"],
    ):
        (
            ZendeskExportTicketsOperator(task_id="export", flow=flow.name)
            >> ZendeskTicketOrganizationsOperator(task_id="organizations", flow=flow.name)
        )
