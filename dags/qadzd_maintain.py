"""The ledger lets go of what it need not keep: old deliveries, audit entries and changes."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from airflow_provider_qadzd import config
from airflow_provider_qadzd.operators.audit import LedgerMaintainOperator

DOC = """
**For** whoever looks after the ledger's size, and after how long personal data is kept.

**Changes** only the ledger: deletes deliveries, audit entries and changes that are over, after the days in
`[qadzd] keep_inbox_days`, `keep_audit_days` and `keep_changes_days`. Of every link the first and the last audit entry
stay; what waits or is open stays. It works in short batches beside all other DAGs.

**When red:** clear the task; it goes on with what is left. *keep_..._days* in the message names a setting to mend.
"""

with DAG(
    dag_id="qadzd_maintain",
    description="the ledger: deletes what is older than it is to be kept",
    schedule=config.option("maintain_schedule"),
    start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    doc_md=DOC,
    tags=["qadzd"],
):
    LedgerMaintainOperator(task_id="tidy")
