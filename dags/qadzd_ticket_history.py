"""Tickets of the past, window by window: each run exports those whose latest change lies in its interval."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, CronDataIntervalTimetable

from airflow_provider_qadzd import config
from airflow_provider_qadzd.operators.tickets import ZendeskTicketHistoryOperator

DOC = """
**For** filling the ledger with tickets from before the sync was set up.

**Changes** only the ledger. `airflow backfill create --dag-id qadzd_ticket_history --from-date ... --to-date ...`
exports the past; each daily run exports yesterday once more.

**When red:** clear the task; an interrupted window goes on where it stopped, a complete one starts again.
"""

for flow in config.flows():
    with DAG(
        dag_id=f"qadzd_ticket_history{flow.suffix}",
        description=f"{flow.zendesk}: tickets whose latest change lies in the run's interval",
        # A plain cron string would give intervals of no length.
        schedule=CronDataIntervalTimetable(config.option("history_schedule"), timezone="UTC"),
        start_date=pendulum.datetime(2010, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
        doc_md=DOC,
        tags=["qadzd"],
    ):
        ZendeskTicketHistoryOperator(task_id="export", flow=flow.name)
