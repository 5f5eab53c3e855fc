"""Getting a Zendesk account ready: run it once, and again whenever something may be missing."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, Param

from airflow_provider_qadzd import config
from airflow_provider_qadzd.operators.onboard import AS_IT_IS, ORGANIZATIONS, ROUTES, ZendeskOnboardOperator

DOC = """
**For** the admin who sets the sync up. `airflow qadzd onboard` does the same at a terminal.

**Changes** in Zendesk: makes the organization and user fields that the sync writes, and the webhook
*QAD ticket events*; with the route *triggers* also three triggers that call it.
In the ledger: the webhook's signing secret, encrypted, and where the ticket export starts.
What is there already stays, what was switched off or points elsewhere is mended; a second run changes nothing.
At the end Zendesk delivers something for a test, and the run waits until it is in the ledger.

**Undo it** with *remove*: triggers, webhook and secret go; the fields only with *remove_fields*, for their values go
with them.

**When red:** the message names the missing scope or setting, or what was answered to the test delivery.
The log ends with what an admin must still do.
"""

PARAMS = {
    "receiver_url": Param(
        "", type="string", title="Receiver", description="Where Zendesk reaches it; empty: [qadzd] receiver_url"
    ),
    "route": Param(
        AS_IT_IS, type="string", enum=list(ROUTES), title="How changes are told",
        description="The webhook subscribes to events (the first time, if nothing else is chosen), or triggers call it",
    ),
    "set_ticket_organization": Param(
        AS_IT_IS, type="string", enum=list(ORGANIZATIONS), title="Set organizations on tickets",
        description="Whether open tickets that lack their organization are given it; needs the scope tickets:write",
    ),
    "test_delivery": Param(
        True, type="boolean", title="Test delivery", description="Let Zendesk deliver something, and wait for it"
    ),
    "remove": Param(False, type="boolean", title="Remove", description="Undo it instead"),
    "remove_fields": Param(
        False, type="boolean", title="Remove fields", description="With Remove: our fields too, and all their values"
    ),
}  # fmt: skip

for flow in config.flows():
    with DAG(
        dag_id=f"qadzd_onboard{flow.suffix}",
        description=f"{flow.zendesk}: fields, webhook, signing secret, starting point",
        schedule=None,
        start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 2, "retry_delay": timedelta(seconds=20)},
        params=PARAMS,
        doc_md=DOC,
        tags=["qadzd"],
    ):
        ZendeskOnboardOperator(
            task_id="onboard", flow=flow.name, asked={name: f"{{{{ params.{name} }}}}" for name in PARAMS}
        )
