"""After a key was changed: what each row is opened by, and sealing all anew beside those who write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select, update

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.consents import Consents, Pending
from airflow_provider_qadzd.ledger.schema import credential
from airflow_provider_qadzd.ledger.vault import (
    SIGNING,
    RotatedKeys,
    SealedRow,
    Secrets,
    Vault,
    key_id,
    rotate_keys,
    sealed_rows,
)
from airflow_provider_qadzd.records import Token

OLD, NEW, RECEIVERS_OLD, RECEIVERS_NEW, LOST = (Fernet.generate_key().decode() for _ in range(5))
BOTH, RECEIVERS = Vault([NEW, OLD]), Vault([RECEIVERS_NEW, RECEIVERS_OLD])
HOLDER = "account:1"


def secrets_of(ledger: Ledger, key: str) -> Secrets:
    """The account's secrets, sealed with one key."""
    return Secrets(ledger, Vault([key]), HOLDER)


def keep_token(secrets: Secrets, name: str = "token", access: str = "access-1") -> None:
    """A token of version 1."""
    lease = secrets.lease(name, "maker", 0, 30)
    assert lease is not None
    assert secrets.save(lease, Token(access, "refresh-1"))


def rows(ledger: Ledger) -> dict[str, dict[str, Any]]:
    """Every row by its name."""
    with ledger.reading() as tx:
        return {row["credential_name"]: dict(row) for row in tx.execute(select(credential)).mappings()}


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """A ledger with tokens and signing secrets of old, new and lost keys, and with rows that hold no kept secret."""
    for name, key in (("new", NEW), ("old", OLD), ("lost", LOST)):
        keep_token(secrets_of(ledger, key), name)
    for name, key in (("new", RECEIVERS_NEW), ("old", RECEIVERS_OLD), ("not theirs", NEW)):
        secrets_of(ledger, key).put(f"{SIGNING}{name}", f"signs-{name}")
    secrets_of(ledger, NEW).lease("only leased", "me", 0, 30)
    Consents(ledger, Vault([LOST])).keep("state", Pending("anna", "zendesk_default", "https://x", "id", "verifier"))
    return ledger


def test_each_row_is_judged_by_the_vault_that_seals_it(filled: Ledger) -> None:
    """Signing secrets by the receiver's keys, others by those for tokens; what keeps no secret is left out."""
    assert sealed_rows(filled, BOTH, RECEIVERS) == [
        SealedRow(HOLDER, "lost", key_id(LOST), "none"),
        SealedRow(HOLDER, "new", key_id(NEW), "newest"),
        SealedRow(HOLDER, "old", key_id(OLD), "older"),
        SealedRow(HOLDER, "signing:new", key_id(RECEIVERS_NEW), "newest"),
        SealedRow(HOLDER, "signing:not theirs", key_id(NEW), "none"),
        SealedRow(HOLDER, "signing:old", key_id(RECEIVERS_OLD), "older"),
    ]


def test_what_is_damaged_is_opened_by_none(ledger: Ledger) -> None:
    """The right key is not enough: what it sealed must be whole."""
    keep_token(secrets_of(ledger, NEW))
    with ledger.writing() as tx:
        tx.execute(update(credential).values(sealed=b"gAAAA"))
    assert [row.opened_by for row in sealed_rows(ledger, BOTH, RECEIVERS)] == ["none"]


def test_all_that_can_be_opened_is_sealed_with_the_newest_keys(filled: Ledger) -> None:
    """Afterwards the newest keys alone open it, and nothing else of any row has changed; what is lost is named."""
    before = rows(filled)
    done = rotate_keys(filled, BOTH, RECEIVERS)
    unreadable = (
        SealedRow(HOLDER, "lost", key_id(LOST), "none"),
        SealedRow(HOLDER, "signing:not theirs", key_id(NEW), "none"),
    )
    assert done == RotatedKeys(resealed=2, unreadable=unreadable, current=2)
    after = rows(filled)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"old", "signing:old"}
    for name in changed:
        assert {**after[name], "key_id": "", "sealed": b""} == {**before[name], "key_id": "", "sealed": b""}
    assert secrets_of(filled, NEW).read("old") == Token("access-1", "refresh-1", version=1)
    assert secrets_of(filled, RECEIVERS_NEW).with_prefix("signing:old") == {"signing:old": "signs-old"}
    assert rotate_keys(filled, BOTH, RECEIVERS) == RotatedKeys(resealed=0, unreadable=unreadable, current=4)
    assert rows(filled) == after


def test_a_refresh_under_way_is_not_disturbed(ledger: Ledger) -> None:
    """Its lease stays, its token is stored over the row sealed anew, and a token that was refused stays refused."""
    writer = secrets_of(ledger, OLD)
    keep_token(writer)
    keep_token(writer, "refused")
    refused = writer.lease("refused", "me", 1, 30)
    lease = writer.lease("token", "me", 1, 30)
    assert refused is not None
    assert lease is not None
    writer.release(refused, connect_again=True)
    assert rotate_keys(ledger, BOTH, RECEIVERS).resealed == 2
    rotated = Secrets(ledger, BOTH, HOLDER)
    assert rotated.lease("token", "you", 1, 30) is None
    assert writer.save(lease, Token("access-2"))
    assert rotated.read("token") == Token("access-2", version=2)
    still = rotated.read("refused")
    assert still is not None
    assert still.state == "connect_again"


class WhileSealing(Vault):
    """Something else happens to the row after it was read and before it is written."""

    meanwhile: Callable[[], object]

    def seal(self, plain: str) -> tuple[str, bytes]:
        self.meanwhile()
        return super().seal(plain)


def saved(ledger: Ledger) -> None:
    """A refresh stores its token."""
    secrets = secrets_of(ledger, OLD)
    lease = secrets.lease("token", "me", 1, 30)
    assert lease is not None
    assert secrets.save(lease, Token("access-2"))


@pytest.mark.parametrize(
    ("meanwhile", "left"),
    [
        pytest.param(saved, "token", id="refreshed"),
        pytest.param(
            lambda ledger: secrets_of(ledger, OLD).put("token", "other"), "token", id="replaced, same version"
        ),
        pytest.param(lambda ledger: secrets_of(ledger, OLD).forget("token"), None, id="forgotten"),
    ],
)
def test_a_row_that_changes_meanwhile_is_left_to_its_writer(
    open_ledger: Callable[[], Ledger], meanwhile: Callable[[Ledger], object], left: str | None
) -> None:
    """What was written in between stays as it was written, and is not counted as sealed anew."""
    ledger, other = open_ledger(), open_ledger()
    keep_token(secrets_of(ledger, OLD))
    vault, seen = WhileSealing([NEW, OLD]), dict[str, dict[str, Any]]()

    def happen() -> None:
        meanwhile(other)
        seen.update(rows(other))

    vault.meanwhile = happen
    assert rotate_keys(ledger, vault, RECEIVERS) == RotatedKeys(0, (), 0)
    assert rows(ledger) == seen
    assert set(seen) == ({left} if left else set())


def test_nothing_told_holds_a_secret(filled: Ledger) -> None:
    """Rows and counts are for terminals and the doctor."""
    told = f"{sealed_rows(filled, BOTH, RECEIVERS)!r} {rotate_keys(filled, BOTH, RECEIVERS)!r}"
    for secret in ("access-1", "refresh-1", "signs-", OLD, NEW, LOST, RECEIVERS_NEW):
        assert secret not in told


def test_a_key_that_can_go_is_needed_no_more(filled: Ledger) -> None:
    """Once all is sealed anew, the old key opens nothing that is left."""
    rotate_keys(filled, BOTH, RECEIVERS)
    with pytest.raises(FixFirst, match=key_id(NEW)):
        secrets_of(filled, OLD).read("old")
