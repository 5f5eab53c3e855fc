"""A live export in a process of its own that stops between storing a page and committing it, to be killed there.

Arguments: the sandbox's address, the ledger's URL, a Zendesk token, the run's name, and with how many tickets it stops.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from sqlalchemy import Connection, func, select

from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.budget import LedgerBudget
from airflow_provider_qadzd.ledger.schema import ticket
from airflow_provider_qadzd.sync.export import Run, export_live
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.pace import Pace


class Stopping(Ledger):
    """A ledger whose transaction hangs at its end once it holds that many tickets."""

    stops_at = 0

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with super().writing() as tx:
            yield tx
            if tx.execute(select(func.count()).select_from(ticket)).scalar_one() >= self.stops_at:
                print("stored", flush=True)
                time.sleep(60)


def main(url: str, ledger_url: str, token: str, run: str, stops_at: str) -> None:
    """Export until the transaction that stores so many tickets."""
    ledger = Stopping(ledger_url)
    ledger.stops_at = int(stops_at)
    account_id = identity.account_at(ledger, url).account_id
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {token}"
    client = ZendeskClient(url, session, Pace(LedgerBudget(ledger, account_id)))
    export_live(ledger, account_id, client, Run("export", run))


if __name__ == "__main__":
    main(*sys.argv[1:])
