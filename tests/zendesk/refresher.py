"""Processes of their own that share one token in a ledger: `python -m tests.zendesk.refresher ROLE URL LEDGER_URL`.

`call` calls Zendesk once per line of its input, which says how many seconds ahead of the machine its clock is then,
and answers each with a status or an error. `stuck-before` and `stuck-after` do so, too, but say `stuck` and hang just
before a token request leaves, or just after its answer came and before it is stored, so that they can be killed there.
`receive` commits webhook deliveries until its input ends, and then tells when each commit began and how long it took.
"""

from __future__ import annotations

import json
import select
import sys
import time
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from airflow_provider_qadzd.errors import QadzdError
from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.vault import Secrets, Vault
from airflow_provider_qadzd.records import Lease, Token
from airflow_provider_qadzd.sync.receive import accept
from airflow_provider_qadzd.zendesk.oauth import OAuthClient, ZendeskAuth
from airflow_provider_qadzd.zendesk.tokens import TokenSource
from airflow_provider_qadzd.zendesk.webhook import Delivery

KEY = "c2l4dGVlbiBieXRlcyB0d2ljZSBtYWtlIGEga2V5ISE="
NAME, HOLDER, ACCOUNT = "token:authorization_code:sandbox", "account:1", 1
CALL = "/api/v2/oauth/tokens/current"
PAUSE = 0.01


class Ahead:
    """The machine's clock, some seconds ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class StuckAfter(Secrets):
    """Hangs when a token is to be stored."""

    def save(self, lease: Lease, token: Token) -> bool:
        hang()
        return super().save(lease, token)


class StuckBefore(HTTPAdapter):
    """Hangs when a token is to be asked for."""

    def send(self, *args: Any, **options: Any) -> requests.Response:
        hang()
        return super().send(*args, **options)


def hang() -> None:
    """Say so, and wait to be killed."""
    print("stuck", flush=True)
    time.sleep(600)


def person(url: str) -> OAuthClient:
    """The client that a person has given consent to."""
    return OAuthClient(
        url, "sandbox", "sandbox", "read write", "http://localhost/back", "authorization_code",
        "connection zendesk_default",
    )  # fmt: skip


def plain_session() -> requests.Session:
    """A session that takes nothing from the environment."""
    session = requests.Session()
    session.trust_env = False
    return session


def source_of(
    ledger: Ledger, client: OAuthClient, store: type[Secrets] = Secrets, adapter: HTTPAdapter | None = None,
    patience: float = 20.0,
) -> TokenSource:  # fmt: skip
    """The shared token, looked for quickly; asked for by way of `adapter`."""
    session = plain_session()
    if adapter:
        session.mount("http://", adapter)
    kept = store(ledger, Vault([KEY]), HOLDER)
    return TokenSource(NAME, client, kept, session, ledger.clock, patience=patience, pause=PAUSE)


def call(role: str, url: str, ledger_url: str) -> None:
    """One signed call per line."""
    clock = Ahead()
    store, adapter = StuckAfter if role == "stuck-after" else Secrets, StuckBefore() if role == "stuck-before" else None
    tokens = source_of(Ledger(ledger_url, clock), person(url), store, adapter)
    session = plain_session()
    session.auth = ZendeskAuth(url, tokens)
    print("ready", flush=True)
    for line in sys.stdin:
        clock.ahead = float(line)
        try:
            print(session.get(url + CALL, timeout=60).status_code, flush=True)
        except QadzdError as error:
            print(f"{type(error).__name__}: {error}", flush=True)


def receive(ledger_url: str) -> None:
    """Deliveries, one after the other, with a breath in between."""
    ledger, commits = Ledger(ledger_url), list[tuple[float, float]]()
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        name = f"e{len(commits)}"
        delivery = Delivery(name, "updated", 17, "2026-01-01T00:00:00Z", "zen:event-type:ticket.comment_added", name)
        began = time.monotonic()
        accept(ledger, ACCOUNT, delivery, b"{}")
        commits.append((began, time.monotonic() - began))
    print(json.dumps(commits), flush=True)


if __name__ == "__main__":
    given_role, given_url, given_ledger = sys.argv[1:]
    receive(given_ledger) if given_role == "receive" else call(given_role, given_url, given_ledger)
