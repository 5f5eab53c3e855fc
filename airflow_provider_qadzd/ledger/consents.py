"""Requests for consent that are under way, between the Connect page and Zendesk's answer to it.

What ties the two together stays here, sealed: the PKCE verifier never leaves the server, and the state is kept as its
digest only. A state is taken once: whoever takes it deletes it in the same transaction, whatever comes of it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

from sqlalchemy import and_, delete, select
from sqlalchemy.sql.elements import ColumnElement

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.schema import credential
from airflow_provider_qadzd.ledger.store import Ledger, epoch_of, insert_into, iso
from airflow_provider_qadzd.ledger.vault import CONSENTS, Vault

LIFE = 600.0
"""Seconds that a person has at Zendesk's consent page."""

_AGAIN = "Connect again."


@dataclass(frozen=True, slots=True)
class Pending:
    """One request: which Airflow user made it, for which connection, and what that connection meant then."""

    user: str
    conn_id: str
    base_url: str
    client_id: str
    verifier: str = field(repr=False)


class UnknownState(FixFirst):
    """Nobody waits for this answer: it came too late, or came before, or was asked for elsewhere."""


@dataclass(frozen=True, slots=True)
class Consents:
    """The requests of all users, shared by all processes."""

    ledger: Ledger
    vault: Vault

    def keep(self, state: str, pending: Pending) -> None:
        """Keep a request for `LIFE` seconds. Requests that nobody came back to are cleared away."""
        sealed_by, sealed = self.vault.seal(json.dumps(asdict(pending)))
        now = self.ledger.clock.time()
        row = {
            "holder": CONSENTS, "credential_name": _name_of(state), "key_id": sealed_by, "sealed": sealed, "version": 1,
            "credential_state": "ok", "written_at": iso(now),
        }  # fmt: skip
        old = and_(credential.c.holder == CONSENTS, credential.c.written_at < iso(now - LIFE))
        with self.ledger.writing() as tx:
            tx.execute(delete(credential).where(old))
            tx.execute(insert_into(tx, credential).values(row))

    def take(self, state: str, user: str) -> Pending:
        """The request of that state, once. UnknownState if there is none; FixFirst if it is too old or another user's.

        However often and wherever at once this is called, one caller gets it; and for the wrong user it is gone, too.
        """
        name = _name_of(state)
        with self.ledger.writing() as tx:
            row = tx.execute(select(credential).where(_named(name))).one_or_none()
            # On PostgreSQL two may have read it: one of them deletes it.
            if row is None or tx.execute(delete(credential).where(_named(name))).rowcount != 1:
                raise UnknownState("This request for consent has expired or was used already.", advice=_AGAIN)
        pending = Pending(**json.loads(self.vault.open(row.key_id, row.sealed, "request for consent")))
        if epoch_of(row.written_at) + LIFE < self.ledger.clock.time():
            raise FixFirst(f"This request for consent is older than {LIFE / 60:.0f} minutes.", advice=_AGAIN)
        if pending.user != user:
            raise FixFirst(
                "This request for consent was made by another Airflow user.",
                advice="Sign in as the one who pressed Connect, and connect again.",
            )
        return pending


def _name_of(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()


def _named(name: str) -> ColumnElement[bool]:
    return and_(credential.c.holder == CONSENTS, credential.c.credential_name == name)
