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
from typing import Any, Literal

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import Row, and_, delete, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.bulk import upsert
from airflow_provider_qadzd.ledger.schema import credential
from airflow_provider_qadzd.ledger.store import Ledger
from airflow_provider_qadzd.records import Lease, Token

SIGNING = "signing:"
"""How the names of signing secrets start: the receiver's vault seals them, and the one for tokens all others."""

CONSENTS = "consent"
"""The holder of requests for consent, which live ten minutes: they are not kept secrets, and nobody seals them anew."""


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

    def is_newest(self, sealed_by: str) -> bool:
        """Whether that is the id of the key that this vault seals with."""
        return sealed_by == self._newest

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

    def forget(self, name: str) -> bool:
        """Delete what is kept under that name. False, and nothing is deleted, while somebody renews it."""
        free = credential.c.lease_until <= self.ledger.clock.time()
        with self.ledger.writing() as tx:
            tx.execute(delete(credential).where(self._named(name), free))
            return tx.execute(select(credential.c.version).where(self._named(name))).first() is None

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

    def names(self, prefix: str) -> list[str]:
        """The names that start with `prefix`, whether or not a key given opens what is kept under them."""
        asked = select(credential.c.credential_name).where(
            credential.c.holder == self.holder, credential.c.credential_name.startswith(prefix, autoescape=True)
        )
        with self.ledger.reading() as tx:
            return list(tx.execute(asked.order_by(credential.c.credential_name)).scalars())

    def _named(self, name: str) -> ColumnElement[bool]:
        return and_(credential.c.holder == self.holder, credential.c.credential_name == name)

    def _empty_row(self, name: str) -> dict[str, object]:
        return {
            "holder": self.holder, "credential_name": name, "key_id": "", "sealed": b"", "version": 0,
            "credential_state": "none", "lease_owner": "", "lease_until": 0.0, "written_at": self.ledger.now(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class SealedRow:
    """One kept secret, without the secret. `opened_by` says which of the keys given opens it."""

    holder: str
    name: str
    key_id: str
    opened_by: Literal["newest", "older", "none"]


@dataclass(frozen=True, slots=True)
class RotatedKeys:
    """What `rotate_keys` did: rows sealed anew, rows that no key given opens, rows that needed nothing."""

    resealed: int
    unreadable: tuple[SealedRow, ...]
    current: int


def sealed_rows(ledger: Ledger, vault: Vault, receiver_vault: Vault) -> list[SealedRow]:
    """Every kept token and signing secret, by holder and name, and whether the newest key opens it."""
    return [_judged(row, _vault_of(row, vault, receiver_vault)) for row in _kept(ledger)]


def rotate_keys(ledger: Ledger, vault: Vault, receiver_vault: Vault) -> RotatedKeys:
    """Seal with the newest key what an older one sealed.

    Each row is one short transaction that leaves version and lease alone, so a refresh under way is not disturbed; a
    row that changed since it was read is left to its writer, and not counted. Once every process has the newest key
    first, this was run, and `sealed_rows` shows nothing but the newest, the older keys can go.
    """
    resealed, unreadable, current = 0, list[SealedRow](), 0
    for row in _kept(ledger):
        keys = _vault_of(row, vault, receiver_vault)
        judged = _judged(row, keys)
        if judged.opened_by == "none":
            unreadable.append(judged)
        elif judged.opened_by == "older":
            resealed += _resealed(ledger, row, keys)
        else:
            current += 1
    return RotatedKeys(resealed, tuple(unreadable), current)


def _kept(ledger: Ledger) -> Sequence[Row[Any]]:
    asked = select(credential).where(credential.c.version > 0, credential.c.holder != CONSENTS)
    with ledger.reading() as tx:
        return tx.execute(asked.order_by(credential.c.holder, credential.c.credential_name)).all()


def _vault_of(row: Row[Any], vault: Vault, receiver_vault: Vault) -> Vault:
    return receiver_vault if row.credential_name.startswith(SIGNING) else vault


def _judged(row: Row[Any], keys: Vault) -> SealedRow:
    opened_by: Literal["newest", "older", "none"] = "newest" if keys.is_newest(row.key_id) else "older"
    try:
        keys.open(row.key_id, row.sealed, row.credential_name)
    except FixFirst:
        opened_by = "none"
    return SealedRow(row.holder, row.credential_name, row.key_id, opened_by)


def _resealed(ledger: Ledger, row: Row[Any], keys: Vault) -> bool:
    """Whether the row was still as read. Plain secrets are always version 1, so what is sealed is compared, too."""
    sealed_by, sealed = keys.seal(keys.open(row.key_id, row.sealed, row.credential_name))
    names = ("holder", "credential_name", "version", "key_id", "sealed")
    as_read = and_(*(credential.c[name] == getattr(row, name) for name in names))
    with ledger.writing() as tx:
        done = tx.execute(update(credential).where(as_read).values(key_id=sealed_by, sealed=sealed))
    return done.rowcount == 1
