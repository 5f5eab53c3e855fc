"""A worker process of its own, so that it can be killed, and so that several run at once.

`python -m tests.sync.worker apply ...` applies a plan, `... run ...` does a whole run outwards, as a DAG run would.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace

import requests

from airflow_provider_qadzd.errors import QadzdError, TryLater
from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.budget import LedgerBudget
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.vault import Secrets, Vault
from airflow_provider_qadzd.qad.client import QadClient, QadSettings, connect
from airflow_provider_qadzd.records import SystemClock
from airflow_provider_qadzd.sync.apply import Applier, Done
from airflow_provider_qadzd.sync.collect import collect
from airflow_provider_qadzd.sync.draft import draft_plan
from airflow_provider_qadzd.sync.mirror import refresh_mirror
from airflow_provider_qadzd.sync.plan import Brake
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.pace import Pace
from tests.sync.world import RULES

_TRIES = 200
"""Times a task is tried: the others hold what it waits for, for a moment each."""


class Ahead(SystemClock):
    """Time as it passes, some seconds ahead of this machine's."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def time(self) -> float:
        return super().time() + self.seconds


class Worker:
    """A flow, its ledger and its two clients in a process of their own."""

    def __init__(self, url: str, ledger: str, token: str, organization: str, user: str, ahead: float) -> None:
        self.url, self.rules, self.clock = url, replace(RULES, organization=organization, user=user), Ahead(ahead)
        self.ledger = Ledger(ledger, self.clock)
        self.vault = Vault([os.environ["WORLD_KEY"]])
        self.ledger.vault = lambda: self.vault
        account = identity.account_at(self.ledger, url)
        source_id = identity.source_id_of(self.ledger, f"{url}/clouderp", ())
        self.flow: Flow = identity.flow_named(
            self.ledger, "default", source_id, account.account_id, organization, user
        )  # fmt: skip
        session = requests.Session()
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {token}"
        pace = Pace(LedgerBudget(self.ledger, account.account_id), self.clock)
        self.client = ZendeskClient(url, session, pace, self.clock)

    def apply(self, owner: str, plan_id: int) -> None:
        """Step until nothing is open."""
        applier = Applier(self.ledger, self.flow, self.client, owner, plan_id)
        print("ready", flush=True)
        while not isinstance(applier.step(), Done):
            time.sleep(0.05)
        print("done", flush=True)

    def run(self, owner: str) -> None:
        """Collect, mirror, plan and apply, each tried again as Airflow would."""
        plan_ids: list[int] = []
        applied: list[bool] = []

        def plan() -> None:
            plan_ids.append(draft_plan(self.ledger, self.flow, self.rules, owner, Brake()).plan_id)

        def step() -> None:
            applied.append(isinstance(applier.step(), Done))

        self._task(lambda: collect(self.ledger, self.flow.source_id, self._qad(), owner))
        self._task(lambda: refresh_mirror(self.ledger, self.flow.account_id, self.client))
        self._task(plan)
        applier = Applier(self.ledger, self.flow, self.client, owner, plan_ids[-1])
        while not any(applied):
            self._task(step)
            time.sleep(0.05)
        print("done", flush=True)

    def _task(self, act: Callable[[], object]) -> None:
        for _ in range(_TRIES):
            try:
                act()
                return
            except TryLater as busy:
                time.sleep(min(busy.wait, 0.1))
        raise QadzdError("put off for ever")

    def _qad(self) -> QadClient:
        session = requests.Session()
        session.trust_env = False
        tokens = Secrets(self.ledger, self.vault, f"source:{self.flow.source_id}")
        return connect(
            f"{self.url}/clouderp", "svc_zendesk", "sandbox", QadSettings(client_id="sandbox"), tokens=tokens,
            session=session, clock=self.clock, where="connection qad_default",
        )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["apply", "run"])
    for name in ("url", "ledger", "token", "owner"):
        parser.add_argument(name)
    parser.add_argument("--plan-id", type=int)
    parser.add_argument("--organization", default=RULES.organization)
    parser.add_argument("--user", default=RULES.user)
    parser.add_argument("--ahead", type=float, default=0.0)
    given = parser.parse_args()
    worker = Worker(given.url, given.ledger, given.token, given.organization, given.user, given.ahead)
    if given.what == "apply":
        worker.apply(given.owner, given.plan_id)
    else:
        worker.run(given.owner)
