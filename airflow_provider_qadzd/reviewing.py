"""Approving a plan, the same for the page and for a terminal: the ledger remembers who did, and a run is triggered."""

from __future__ import annotations

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger import Ledger, plans


def dag_of(flow_name: str) -> str:
    """The DAG that syncs the accounts of that flow. FixFirst for a flow that `[qadzd] flows` does not have."""
    return f"qadzd_sync_accounts{config.flow_settings(flow_name).suffix}"


def approve_and_trigger(ledger: Ledger, plan_id: int, by: str, *, skip_moved: bool, from_page: bool) -> str:
    """Approve the plan and trigger the run that applies it, in words. FixFirst if either cannot be done.

    In an Airflow process that reaches Airflow's database, which a task does not.
    """
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.models import DagModel
    from airflow.sdk.exceptions import AirflowException
    from airflow.utils.types import DagRunTriggeredByType

    dag_id = dag_of(plans.plan_at(ledger, plan_id).flow_name)
    plans.approve(ledger, plan_id, by)
    asked = {"plan_id": plan_id, "mode": "apply_reviewed", "skip_moved": skip_moved}
    through = DagRunTriggeredByType.UI if from_page else DagRunTriggeredByType.CLI
    try:
        run = trigger_dag(dag_id, triggered_by=through, triggering_user_name=by, conf=asked)
    except (AirflowException, ValueError) as error:
        plans.hold_again(ledger, plan_id)
        raise FixFirst(f"The DAG {dag_id} cannot be triggered: {error}.", advice="Look at the DAG.") from None
    model = DagModel.get_current(dag_id)
    paused = f" The DAG {dag_id} is paused: the run waits until it is unpaused." if model and model.is_paused else ""
    run_id = "" if run is None else f" {run.run_id}"
    return f"Plan {plan_id} is approved; run{run_id} of {dag_id} applies it.{paused}"
