"""An onboarded account and the connection to it, examined by the doctor over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from airflow_provider_qadzd.findings import Finding, examine
from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.budget import LedgerBudget
from airflow_provider_qadzd.ledger.identity import Account
from airflow_provider_qadzd.ledger.vault import Secrets, Vault
from airflow_provider_qadzd.records import Clock, SystemClock
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sync import doctor, doctor_setup
from airflow_provider_qadzd.sync.doctor import Patient
from airflow_provider_qadzd.sync.onboard import onboard
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.connection import ZendeskSettings
from airflow_provider_qadzd.zendesk.oauth import ApiToken, OAuthClient, ZendeskAuth
from airflow_provider_qadzd.zendesk.pace import Pace
from airflow_provider_qadzd.zendesk.probe import Heard, knock
from airflow_provider_qadzd.zendesk.tokens import TokenSource
from tests.sync.world import World, world_of

URL = "https://qadzd.example"


@dataclass
class Opened:
    """A connection, opened as a hook opens it."""

    settings: ZendeskSettings
    client: ZendeskClient
    account: Account
    ledger: Ledger


@dataclass
class Clinic:
    """An onboarded account and the connection to it, which a test spoils before it is examined."""

    world: World
    settings: ZendeskSettings = ZendeskSettings()  # noqa: RUF009 - frozen
    secret: str = "sandbox"
    url: str = URL
    address: str = ""
    vault: Vault | None = None
    clock: Clock = SystemClock()  # noqa: RUF009 - stateless

    def session(self) -> requests.Session:
        """A session signed as the connection says."""
        world, session = self.world, self.world.session()
        credentials: Any = ApiToken("nobody@example.com", self.secret)
        if self.settings.auth != "api_token":
            oauth = OAuthClient(world.sandbox.url, "sandbox", self.secret, self.settings.scope, where="connection zd")
            kept = Secrets(world.ledger, self.vault or world.vault, world.account.holder)
            name = f"token:{self.secret}:{self.settings.scope}"
            credentials = TokenSource(name, oauth, kept, world.session(), world.clock)
        session.auth = ZendeskAuth(world.sandbox.url, credentials)
        return session

    def patient(self, **more: Any) -> Patient:
        """What the checks look at."""
        world, session = self.world, self.session()
        account = identity.account_at(world.ledger, world.sandbox.url)
        pace = Pace(LedgerBudget(world.ledger, account.account_id), world.clock)
        client = ZendeskClient(world.sandbox.url, session, pace, world.clock)
        address = self.address or world.sandbox.url

        def heard(signed: bool) -> Heard:
            return knock(address, session if signed else world.session(), self.clock, signed=signed)

        kept = Secrets(world.ledger, self.vault or world.vault, account.holder)
        opened = Opened(self.settings, client, account, world.ledger)
        return Patient(opened, lambda: address, heard, lambda: kept.with_prefix("signing:"), self.url, **more)

    def examined(self, **more: Any) -> dict[str, Finding]:
        """Every finding by its check; no call of the doctor may have been a write."""
        patient = self.patient(**more)
        self.world.count_anew()
        checks = [*doctor.connection_checks(patient), *doctor.pace_checks(patient), *doctor_setup.setup_checks(patient)]
        found = examine(checks)
        assert self.world.writes() == 0
        return {one.check: one for one in found}


@contextmanager
def onboarded(sandbox: Sandbox, path: Path) -> Iterator[Clinic]:
    """A small account, onboarded, with its limits in force."""
    with world_of(sandbox, path, (3, 3, 3), fields=False) as world:
        world.sandbox.post_control("limits", {"enabled": True})
        onboard(world.ledger, world.account, world.zendesk, world.secrets, URL)
        yield Clinic(world)


def verdicts(found: dict[str, Finding], verdict: str) -> list[str]:
    """The checks of that verdict."""
    return [name for name, one in found.items() if one.verdict == verdict]
