"""Who was forgotten, known only by marks: whatever bears one is not stored again.

A mark is an HMAC over what identifies a person (key, email, external id, Zendesk id), by a key of its own that is
sealed by the vault and never changes. Every place that stores rows of people asks `marks_in` in the transaction in
which it stores them. Once anybody was forgotten, a process that cannot open the key stores nobody: FixFirst.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, select

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.schema import credential, tombstone
from airflow_provider_qadzd.ledger.store import Ledger, insert_into, ledger_of
from airflow_provider_qadzd.records import fold

Of = Literal["customer", "contact"]
READ_FROM: Mapping[str, Of] = {
    "organization": "customer", "user": "contact", "membership": "contact", "identity": "contact"
}  # fmt: skip
"""Whose QAD record stands behind a kind of change."""

_HOLDER, _NAME = "ledger", "tombstones"


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of all who were forgotten. False, and free to ask, while nobody was."""

    secret: bytes
    known: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.known)

    def has_key(self, source_id: int, of: str, key: str) -> bool:
        """Whether that customer or contact was forgotten."""
        return bool(self.known) and key_mark(self.secret, source_id, of, key) in self.known

    def has_email(self, of: str, email: str) -> bool:
        """Whether that is the address of a forgotten customer or contact."""
        return bool(self.known) and bool(email) and email_mark(self.secret, of, email) in self.known

    def has_record(self, account_id: int, kind: str, row: Mapping[str, Any]) -> bool:
        """Whether a row of the mirror is the record of somebody forgotten."""
        if not self.known:
            return False
        return self.has_zendesk_id(account_id, kind, row["zendesk_id"]) or any(
            mark in self.known
            for mark in (
                external_mark(self.secret, account_id, kind, row["external_folded"]),
                email_mark(self.secret, READ_FROM[kind], row["email_folded"]),
            )
        )

    def has_zendesk_id(self, account_id: int, kind: str, zendesk_id: int | None) -> bool:
        """Whether that organization or user of the account was forgotten."""
        return bool(self.known) and zendesk_mark(self.secret, account_id, kind, zendesk_id) in self.known


def marks_in(tx: Connection) -> Marks:
    """The marks as this transaction sees them."""
    known = frozenset(tx.execute(select(tombstone.c.mark)).scalars())
    return Marks(_secret(tx, _vault_of(ledger_of(tx))) if known else b"", known)


def key_mark(secret: bytes, source_id: int, of: str, key: str) -> str:
    """The mark of a QAD key, which Zendesk compares without regard to case."""
    return _mark(secret, "key", source_id, of, fold(key))


def email_mark(secret: bytes, of: str, email: str) -> str:
    """The mark of an address, wherever it appears."""
    return _mark(secret, "email", of, fold(email))


def external_mark(secret: bytes, account_id: int, kind: str, external_id: str) -> str:
    """The mark of an external id in a Zendesk account."""
    return _mark(secret, "external_id", account_id, kind, fold(external_id))


def zendesk_mark(secret: bytes, account_id: int, kind: str, zendesk_id: int | None) -> str:
    """The mark of an organization or user of a Zendesk account."""
    return _mark(secret, "zendesk_id", account_id, kind, zendesk_id or 0)


def _mark(secret: bytes, *parts: object) -> str:
    return hmac.digest(secret, "\0".join(map(str, parts)).encode(), "sha256").hex()


def add_marks(tx: Connection, ledger: Ledger, made: Callable[[bytes], Iterable[str]]) -> None:
    """Set tombstones: `made` gets the key, which is made the first time, and answers with the marks."""
    rows = [{"mark": mark, "forgotten_at": ledger.now()} for mark in sorted(set(made(secret_in(tx, ledger))))]
    tx.execute(insert_into(tx, tombstone).on_conflict_do_nothing(), rows)


def secret_in(tx: Connection, ledger: Ledger) -> bytes:
    """The key of all marks, made the first time and then for ever the same."""
    vault = _vault_of(ledger)
    key_id, sealed = vault.seal(secrets.token_hex(32))
    row = {
        "holder": _HOLDER, "credential_name": _NAME, "key_id": key_id, "sealed": sealed, "version": 1,
        "credential_state": "ok", "lease_owner": "", "lease_until": 0.0, "written_at": ledger.now(),
    }  # fmt: skip
    tx.execute(insert_into(tx, credential).values(row).on_conflict_do_nothing())
    return _secret(tx, vault)


def forgotten_at(ledger: Ledger, mark_of: Callable[[bytes], str]) -> str | None:
    """When the one with that mark was forgotten, None if nobody with it was."""
    with ledger.reading() as tx:
        marks = marks_in(tx)
        if not marks:
            return None
        asked = select(tombstone.c.forgotten_at).where(tombstone.c.mark == mark_of(marks.secret))
        return tx.execute(asked).scalar_one_or_none()


def _secret(tx: Connection, vault: Any) -> bytes:
    this = (credential.c.holder == _HOLDER, credential.c.credential_name == _NAME)
    row = tx.execute(select(credential.c.key_id, credential.c.sealed).where(*this)).one_or_none()
    if row is None:
        raise FixFirst(
            "The key of the ledger's tombstones is gone: nobody can tell whom it has forgotten.",
            advice="Restore the ledger's table qadzd_credential from a backup.",
        )
    return bytes.fromhex(vault.open(row.key_id, row.sealed, _NAME))


def _vault_of(ledger: Ledger) -> Any:
    if ledger.vault is None:
        raise FixFirst("This process has no vault key, so it cannot tell whom the ledger has forgotten.")
    return ledger.vault()
