"""All of QAD's customers and contacts, once a night: what deltas cannot see, and what is gone."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, Param

from airflow_provider_qadzd import config
from airflow_provider_qadzd.operators.accounts import QadCollectOperator

DOC = """
**For** whoever looks after the alignment of QAD accounts with Zendesk.

**Changes** nothing in Zendesk by itself: it reads QAD, and the next run of `qadzd_sync_accounts` acts on it.
Only full reads that were complete tell what is gone: a record must be missing from several of them, over two days.

**Dry run:** afterwards, trigger `qadzd_sync_accounts` with `mode` = `dry_run`.

**When red:** the failed task's last log line says what happened and what to do next; clear the task.
Green, but *incomplete* in the log: QAD stopped in the middle, or sent far fewer rows than the last time; nothing is
concluded. If that many are really gone, trigger once with `release_brake`.
"""

for flow in config.flows():
    with DAG(
        dag_id=f"qadzd_full_read{flow.suffix}",
        description=f"{flow.qad}: everything, to see what deltas cannot and what is gone",
        schedule=config.option("full_read_schedule"),
        start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
        params={
            "release_brake": Param(False, type="boolean", description="believe a read that has shrunk, this once"),
        },
        doc_md=DOC,
        tags=["qadzd"],
    ):
        QadCollectOperator(task_id="collect", flow=flow.name, full=True, release_brake="{{ params.release_brake }}")
