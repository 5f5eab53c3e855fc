"""Both systems, the ledger and a flow between them, wired as the operators wire them, in the sandbox's time.

Nothing is patched: waiting advances the sandbox's clock, so that limits, jobs and lapses cost no real time.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from cryptography.fernet import Fernet
from sqlalchemy import select

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger import Ledger, exports, identity, schema
from airflow_provider_qadzd.ledger.budget import LedgerBudget
from airflow_provider_qadzd.ledger.vault import Secrets, Vault
from airflow_provider_qadzd.qad.client import QadClient, QadSettings, connect
from airflow_provider_qadzd.records import Clock
from airflow_provider_qadzd.sandbox import Sandbox, Size
from airflow_provider_qadzd.sandbox.qad_store import QadStore
from airflow_provider_qadzd.sandbox.zendesk.store import Store
from airflow_provider_qadzd.sync.apply import Applier, Done
from airflow_provider_qadzd.sync.collect import Collected, collect
from airflow_provider_qadzd.sync.draft import Mode, Plan, draft_plan
from airflow_provider_qadzd.sync.mapping import ORGANIZATION_FIELDS, USER_FIELDS, Rules
from airflow_provider_qadzd.sync.mirror import refresh_mirror
from airflow_provider_qadzd.sync.plan import Brake
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.oauth import OAuthClient, ZendeskAuth
from airflow_provider_qadzd.zendesk.pace import Pace
from airflow_provider_qadzd.zendesk.tokens import TokenSource

Row = dict[str, Any]
KEY = Fernet.generate_key().decode()
RULES = Rules(customer_page="https://qad.example/clouderp/customers/{code}")


class SandboxClock:
    """The sandbox's time, `ahead` of it by some seconds; sleeping lets that much of it pass at once."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox, self.ahead, self.slept = sandbox, 0.0, 0.0

    def time(self) -> float:
        return self.sandbox.state.now + self.ahead

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.sandbox.post_control("clock", {"advance": seconds})


class World:
    """A sandbox, a ledger and the flow `default` between them."""

    def __init__(self, sandbox: Sandbox, ledger: Ledger, clock: Clock) -> None:
        self.sandbox, self.ledger, self.clock = sandbox, ledger, clock
        self.sessions: list[requests.Session] = []
        self.hand_made = 0
        self.rules = RULES
        self.vault = Vault([KEY])
        ledger.vault = lambda: self.vault
        self.account = identity.account_at(ledger, sandbox.url)
        self.qad_url = f"{sandbox.url}/clouderp"
        source_id = identity.source_id_of(ledger, self.qad_url, ())
        self.flow = identity.flow_named(
            ledger, "default", source_id, self.account.account_id, RULES.organization, RULES.user
        )
        self.secrets = Secrets(ledger, self.vault, self.account.holder)
        self.zendesk = self.zendesk_client()
        self.qad = self.qad_client()

    def session(self) -> requests.Session:
        """A session that is closed with this world."""
        made = requests.Session()
        made.trust_env = False
        self.sessions.append(made)
        return made

    def zendesk_client(self, secret: str = "sandbox", url: str = "") -> ZendeskClient:
        """A client signed by client credentials, as the connection `zendesk_default` would be; `url`: not as usual."""
        where, url = "connection zendesk_default", url or self.sandbox.url
        oauth = OAuthClient(url, "sandbox", secret, where=where)
        tokens = TokenSource(f"token:{secret}", oauth, self.secrets, self.session(), self.clock)
        session = self.session()
        session.auth = ZendeskAuth(url, tokens)
        pace = Pace(LedgerBudget(self.ledger, self.account.account_id), self.clock)
        return ZendeskClient(url, session, pace, self.clock)

    def qad_client(self, password: str = "sandbox", page_size: int = 1000, **more: Any) -> QadClient:
        """A client of the sandbox's QAD, as the connection `qad_default` would be."""
        tokens = Secrets(self.ledger, self.vault, f"source:{self.flow.source_id}:{password}")
        settings = QadSettings(client_id="sandbox", page_size=page_size, **more)
        return connect(
            self.qad_url, "svc_zendesk", password, settings, tokens=tokens, session=self.session(), clock=self.clock,
            where="connection qad_default",
        )  # fmt: skip

    def make_fields(self) -> None:
        """The custom fields that onboarding makes."""
        for key, title in ORGANIZATION_FIELDS.items():
            self.zendesk.fields.create_organization_field({"key": key, "title": title, "type": "text"})
        for key, title in USER_FIELDS.items():
            self.zendesk.fields.create_user_field({"key": key, "title": title, "type": "text"})

    # -- the journey out -----------------------------------------------------------------------------------------------

    def collect(self, brake: Brake = Brake(), full: bool = False) -> list[Collected]:  # noqa: B008 - frozen
        return collect(
            self.ledger, self.flow.source_id, self.qad, "run", self.rules.mapping, full=full, brake=brake
        )  # fmt: skip

    def mirror(self) -> dict[str, int]:
        return refresh_mirror(self.ledger, self.flow.account_id, self.zendesk, mapping=self.rules.mapping)

    def plan(self, mode: Mode = "apply", brake: Brake = Brake(), bulk: bool | None = True) -> Plan:  # noqa: B008 - frozen
        return draft_plan(self.ledger, self.flow, self.rules, "run", brake, mode, bulk)

    def applier(self, plan: Plan, owner: str = "run", bulk: bool | None = None, hands: int = 1) -> Applier:
        # One hand: the clock is one for all, so waits of several hands would add up.
        return Applier(
            self.ledger,
            self.flow,
            self.zendesk,
            owner,
            plan.plan_id,
            bulk=bulk,
            rules=self.rules,
            hands=hands,
        )

    def apply(self, plan: Plan, owner: str = "run", hands: int = 1) -> Row:
        """Step to the end, as the operator does, and answer with the report."""
        return self.to_the_end(self.applier(plan, owner, hands=hands)).report

    def to_the_end(self, applier: Applier) -> Done:
        """Step as often as the applier asks for it, and once a minute where a job takes long: some take hours."""
        for turn in range(500):
            state = applier.step()
            if isinstance(state, Done):
                return state
            self.clock.sleep(max(0.0, state.until - self.clock.time(), 60.0 if turn > 50 else 0.0))
        raise AssertionError("apply does not come to an end")

    def apply_through(self, plan: Plan, owner: str = "run", hands: int = 1) -> Row:
        """As `apply`, and again after each TryLater, as Airflow would."""
        for _ in range(20):
            try:
                return self.apply(plan, owner, hands)
            except TryLater as error:
                self.clock.sleep(error.wait)
        raise AssertionError("apply is put off for ever")

    def sync(self, owner: str = "run", full: bool = False) -> tuple[Plan, Row]:
        """One whole run outwards, with the exports' withheld minute over; with `full` it reads all of QAD."""
        self.clock.sleep(130)
        self.collect(full=full)
        self.mirror()
        plan = self.plan()
        return plan, self.apply(plan, owner)

    # -- the journey in ------------------------------------------------------------------------------------------------

    def start_exports(self, days: float = 100) -> None:
        """Both live legs start that many days ago."""
        for leg in ("tickets", "ticket_events"):
            start = exports.start_position(self.clock.time() - days * 86400)
            exports.start_once(self.ledger, self.account.account_id, leg, start)

    # -- looking -------------------------------------------------------------------------------------------------------

    def writes(self) -> int:
        """Writes of ours that Zendesk was asked for, by the sandbox's own count, since the last `count_anew`."""
        return int(self.sandbox.get_control("stats")["zendesk_writes"]) - self.hand_made

    def calls(self) -> Counter[str]:
        return Counter(self.sandbox.get_control("stats")["calls"])

    def count_anew(self) -> None:
        self.sandbox.post_control("reset-stats")
        self.hand_made = 0

    def there(self) -> Row:
        """Everything inside the sandbox."""
        found: Row = self.sandbox.get_control("state")
        return found

    def organizations(self) -> dict[str, Row]:
        """Zendesk's organizations by external id (by name where there is none)."""
        return {row["external_id"] or row["name"]: row for row in self.there()["organizations"]}

    def users(self) -> dict[str, Row]:
        """Zendesk's users by external id (by email where there is none)."""
        return {row["external_id"] or row["email"]: row for row in self.there()["users"]}

    def homes(self, user_id: int) -> set[str]:
        """The external ids of the organizations that a user is a member of."""
        there = self.there()
        keys = {row["id"]: row["external_id"] for row in there["organizations"]}
        return {keys[row["organization_id"]] for row in there["organization_memberships"] if row["user_id"] == user_id}

    def rows(self, table: str, **equal: Any) -> list[Row]:
        """Rows of a ledger table, by primary key."""
        found = getattr(schema, table)
        asked = select(found).where(*(found.c[name] == value for name, value in equal.items()))
        with self.ledger.reading() as tx:
            return [dict(row._mapping) for row in tx.execute(asked.order_by(*found.primary_key.columns))]

    def outcomes(self) -> dict[tuple[str, str], tuple[str, str]]:
        """(kind, key) -> (outcome, detail) as the ledger remembers it."""
        return {
            (row["kind"], row["record_key"]): (row["last_outcome"], row["last_detail"]) for row in self.rows("wanted")
        }

    def fault(self, match: str, **how: Any) -> None:
        self.sandbox.post_control("faults", {"match": match, **how})

    def settings(self, **values: Any) -> None:
        self.sandbox.post_control("settings", values)

    def close(self) -> None:
        for session in self.sessions:
            session.close()
        self.ledger.engine.dispose()


@dataclass(frozen=True)
class Snapshot:
    """Both systems and the ledger's file at one moment, to begin from."""

    path: Path
    zendesk: Store
    qad: QadStore
    offset: float

    @classmethod
    def of(cls, sandbox: Sandbox, path: Path) -> Snapshot:
        """As they are now."""
        state = sandbox.state
        with state.lock:
            return cls(path, deepcopy(state.zendesk), deepcopy(state.qad), state.clock.now() - time.time())

    def restore(self, sandbox: Sandbox) -> None:
        """Bring both systems back to it, just reset."""
        state = sandbox.state
        with state.lock:
            state.zendesk, state.qad = deepcopy(self.zendesk), deepcopy(self.qad)
            state.clock.advance(self.offset)


@contextmanager
def world_of(
    sandbox: Sandbox, path: Path, size: Sequence[int] = (40, 120, 200), *, fields: bool = True,
    after: Snapshot | None = None, url: str = "",
) -> Iterator[World]:  # fmt: skip
    """The sandbox as at the start, of that many customers, contacts and tickets, and a ledger at `path`.

    With `after`, as it was at that moment, of which `path` is a copy of the ledger. With `url`, the ledger is there.
    """
    sandbox.state.size = Size(*size)
    sandbox.post_control("reset")
    sandbox.post_control("limits", {"enabled": False})
    if after is not None:
        after.restore(sandbox)
    clock = SandboxClock(sandbox)
    # While somebody has the file open, SQLite need not fold its log in whenever a connection is closed.
    anchor = sqlite3.connect(path, check_same_thread=False)
    if not url:
        anchor.execute("SELECT count(*) FROM qadzd_link").fetchall()
    world = World(sandbox, Ledger(url or f"sqlite:///{path}", clock), clock)
    if fields and after is None:
        world.make_fields()
    world.count_anew()
    try:
        yield world
    finally:
        world.close()
        anchor.close()
