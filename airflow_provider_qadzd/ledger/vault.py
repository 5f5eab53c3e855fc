"""Secrets at rest: rotating tokens and webhook signing secrets, sealed with Fernet keys that the ledger never holds.

A row names the key that sealed it, so that keys can be rotated and a row that no key opens can be told. Refreshing a
token is a lease, not a lock: compare-and-set in one short transaction, the HTTP call outside any, then a write that
succeeds only over the version it was taken for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import and_, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.schema import credential
from airflow_provider_qadzd.ledger.store import Ledger, upsert
from airflow_provider_qadzd.records import Lease, Token


class Vault:
    """Seals and opens with the first key given; opens with any of them.

    Keys are Fernet keys (32 bytes, url-safe base64). No key, or one that is not a Fernet key, is FixFirst.
    """

    def __init__(self, keys: Sequence[str], *, what: str = "vault key") -> None:
        if not keys:
            raise FixFirst(
                f"There is no {what}: nothing secret can be stored.",
                advice="Set QADZD_VAULT_KEYS (QADZD_RECEIVER_KEYS for signing secrets) to a Fernet key.",
            )
        try:
            self._keys = {key_id(key): Fernet(key) for key in keys}
        except ValueError:
            raise FixFirst(
                f"A {what} is not a Fernet key (32 url-safe base64 bytes).",
                advice="Make one with `airflow qadzd new-key`.",
            ) from None
        self._newest = key_id(keys[0])

    def seal(self, plain: str) -> tuple[str, bytes]:
        """The id of the key used, and `plain` encrypted with it."""
        return self._newest, self._keys[self._newest].encrypt(plain.encode())

    def open(self, sealed_by: str, sealed: bytes, name: str) -> str:
        """What was sealed. FixFirst naming the credential if none of the keys opens it."""
        key = self._keys.get(sealed_by)
        try:
            if key is None:
                raise InvalidToken
            return key.decrypt(bytes(sealed)).decode()
        except InvalidToken:
            raise FixFirst(
                f"The credential {name!r} was sealed with key {sealed_by}, which is not among the keys given.",
                advice="Add that key after the current one, or obtain the credential again.",
            ) from None


def key_id(key: str) -> str:
    """A short public name of a key: the start of its SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of one holder (`account:1`, `source:1`). As a TokenStore it keeps rotating tokens."""

    ledger: Ledger
    vault: Vault
    holder: str

    def read(self, name: str) -> Token | None:
        """The newest token of that name, or None if there never was one."""
        with self.ledger.reading() as tx:
            row = tx.execute(select(credential).where(self._named(name), credential.c.version > 0)).one_or_none()
        if row is None:
            return None
        kept = json.loads(self.vault.open(row.key_id, row.sealed, name))
        ended = row.credential_state == "connect_again"
        return Token(**kept, version=row.version, state="connect_again" if ended else "ok")

    def lease(self, name: str, owner: str, version: int, seconds: float) -> Lease | None:
        """The lease, if it is free and the version is still `version` (0: no token yet)."""
        now = self.ledger.clock.time()
        lease = Lease(name, owner, version, now + seconds)
        with self.ledger.writing() as tx:
            if version == 0:
                upsert(tx, credential, [self._empty_row(name)], keep=[column.name for column in credential.columns])
            free = or_(credential.c.lease_until <= now, credential.c.lease_owner == owner)
            taken = tx.execute(
                update(credential)
                .where(self._named(name), credential.c.version == version, free)
                .values(lease_owner=owner, lease_until=lease.until)
            )
        return lease if taken.rowcount == 1 else None

    def save(self, lease: Lease, token: Token) -> bool:
        """Store `token` over the version that the lease was taken for; False if a newer one is already there."""
        kept = {name: value for name, value in asdict(token).items() if name not in ("version", "state")}
        sealed_by, sealed = self.vault.seal(json.dumps(kept))
        row = {**self._empty_row(lease.name), "key_id": sealed_by, "sealed": sealed, "version": lease.version + 1}
        unchanged = and_(self._named(lease.name), credential.c.version == lease.version)
        with self.ledger.writing() as tx:
            saved = tx.execute(update(credential).where(unchanged).values({**row, "credential_state": "ok"}))
        return saved.rowcount == 1

    def release(self, lease: Lease, *, connect_again: bool = False) -> None:
        """End the lease without a new token; `connect_again` marks the unchanged version as refused for good."""
        values: dict[str, object] = {"lease_owner": "", "lease_until": 0.0}
        if connect_again:
            values["credential_state"] = "connect_again"
        ours = and_(credential.c.version == lease.version, credential.c.lease_owner == lease.owner)
        with self.ledger.writing() as tx:
            tx.execute(update(credential).where(self._named(lease.name), ours).values(values))

    def put(self, name: str, plain: str) -> None:
        """Store one plain secret (a webhook's signing secret), replacing what was there."""
        sealed_by, sealed = self.vault.seal(plain)
        row = {**self._empty_row(name), "key_id": sealed_by, "sealed": sealed, "version": 1, "credential_state": "ok"}
        with self.ledger.writing() as tx:
            upsert(tx, credential, [row])

    def with_prefix(self, prefix: str) -> dict[str, str]:
        """All plain secrets whose name starts with `prefix`, by name."""
        with self.ledger.reading() as tx:
            rows = tx.execute(
                select(credential).where(
                    credential.c.holder == self.holder,
                    credential.c.credential_name.startswith(prefix, autoescape=True),
                    credential.c.version > 0,
                )
            ).all()
        return {row.credential_name: self.vault.open(row.key_id, row.sealed, row.credential_name) for row in rows}

    def _named(self, name: str) -> ColumnElement[bool]:
        return and_(credential.c.holder == self.holder, credential.c.credential_name == name)

    def _empty_row(self, name: str) -> dict[str, object]:
        return {
            "holder": self.holder, "credential_name": name, "key_id": "", "sealed": b"", "version": 0,
            "credential_state": "none", "lease_owner": "", "lease_until": 0.0, "written_at": self.ledger.now(),
        }  # fmt: skip
