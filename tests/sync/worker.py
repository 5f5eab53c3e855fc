"""A worker process of its own that applies a plan, so that it can be killed: `python -m tests.sync.worker ...`.

Arguments: the sandbox's address, the ledger's file, a Zendesk token, the run's name, the plan's id.
"""

from __future__ import annotations

import sys
import time

import requests

from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.budget import LedgerBudget
from airflow_provider_qadzd.sync.apply import Applier, Done
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.pace import Pace
from tests.sync.world import RULES


def main(url: str, path: str, token: str, owner: str, plan_id: str) -> None:
    """Step until nothing is open."""
    ledger = Ledger(f"sqlite:///{path}")
    account = identity.account_at(ledger, url)
    source_id = identity.source_id_of(ledger, f"{url}/clouderp", ())
    flow = identity.flow_named(ledger, "default", source_id, account.account_id, RULES.organization, RULES.user)
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {token}"
    client = ZendeskClient(url, session, Pace(LedgerBudget(ledger, account.account_id)))
    applier = Applier(ledger, flow, client, owner, int(plan_id))
    print("ready", flush=True)
    while not isinstance(applier.step(), Done):
        time.sleep(0.05)
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
