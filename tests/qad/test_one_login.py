"""QAD's sessions are licensed: all workers and all tasks of an installation share one, kept sealed in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import requests
from cryptography.fernet import Fernet
from sqlalchemy import select

from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.schema import credential
from airflow_provider_qadzd.ledger.vault import Secrets, Vault
from airflow_provider_qadzd.qad.client import QadSettings, connect
from airflow_provider_qadzd.records import SystemClock
from airflow_provider_qadzd.sandbox import Sandbox, running

WORKERS = 6
KEY = Fernet.generate_key().decode()
LOGINS = {"oauth_password": "POST /clouderp/oauth/token", "cookie": "POST /clouderp/api/login"}


class Hurried(SystemClock):
    """Real time, with short waits."""

    def sleep(self, seconds: float) -> None:
        super().sleep(min(seconds, 0.02))


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    """One sandbox for the module."""
    with running(customers=12, contacts=12, tickets=0) as sandbox:
        yield sandbox


@pytest.mark.parametrize("auth", LOGINS)
def test_workers_and_tasks_share_one_session(served: Sandbox, open_ledger: Callable[[], Ledger], auth: str) -> None:
    """Workers that start at once log in once between them; the next task finds the session and does not log in."""
    served.post_control("reset")
    start = Barrier(WORKERS)
    ledgers = [open_ledger() for _ in range(WORKERS)]

    def rows(ledger: Ledger, together: bool) -> int:
        with requests.Session() as session:
            client = connect(
                f"{served.url}/clouderp", "svc_zendesk", "sandbox", QadSettings(auth=auth, client_id="sandbox"),
                tokens=Secrets(ledger, Vault([KEY]), "source:1"), session=session, clock=Hurried(),
            )  # fmt: skip
            if together:
                start.wait(20)
            return sum(len(page) for page in client.customers())

    with ThreadPoolExecutor(WORKERS) as pool:
        counts = list(pool.map(lambda ledger: rows(ledger, together=True), ledgers))
    assert (counts, logins(served, auth)) == ([12] * WORKERS, 1)
    assert (rows(open_ledger(), together=False), logins(served, auth)) == (12, 1)
    served.post_control("tokens", {"qad": True})
    assert (rows(open_ledger(), together=False), logins(served, auth)) == (12, 2)
    with ledgers[0].reading() as tx:
        kept: list[Any] = tx.execute(select(credential)).all()
    assert len(kept) == 1
    assert not {*served.state.qad_access.access, *served.state.qad_access.cookies} & {str(value) for value in kept[0]}


def logins(served: Sandbox, auth: str) -> int:
    """How often somebody signed in."""
    return int(served.get_control("stats")["calls"].get(LOGINS[auth], 0))
