"""Secrets at rest, and the lease by which one process at a time refreshes a token."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.schema import credential
from airflow_provider_qadzd.ledger.vault import Secrets, Vault, key_id
from airflow_provider_qadzd.records import Lease, Token
from tests.conftest import SetClock

KEYS = [Fernet.generate_key().decode() for _ in range(2)]


@pytest.fixture
def secrets(ledger: Ledger) -> Secrets:
    """The credentials of one account."""
    return Secrets(ledger, Vault(KEYS[:1]), "account:1")


def first_token(secrets: Secrets, access: str = "access-1") -> Token:
    """A stored token, as read back."""
    lease = secrets.lease("oauth", "maker", 0, 30)
    assert lease is not None
    assert secrets.save(lease, Token(access, "refresh-1", 2_000_000_000.0, "read write"))
    token = secrets.read("oauth")
    assert token is not None
    return token


# -- the vault ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        pytest.param([], "There is no vault key", id="no key"),
        pytest.param([KEYS[0], "too short"], "not a Fernet key", id="not a Fernet key"),
        pytest.param([""], "not a Fernet key", id="an empty key"),
    ],
)
def test_a_vault_needs_keys(keys: list[str], told: str) -> None:
    """Without a proper key nothing secret is stored, and the error holds no key."""
    with pytest.raises(FixFirst, match=told) as error:
        Vault(keys)
    assert KEYS[0] not in str(error.value)


def test_a_secret_is_opened_by_any_key_and_sealed_by_the_first() -> None:
    """After the keys were rotated, what the old one sealed can still be read."""
    sealed_by, sealed = Vault(KEYS[:1]).seal("geheim")
    assert sealed_by == key_id(KEYS[0])
    assert b"geheim" not in sealed
    rotated = Vault([KEYS[1], KEYS[0]])
    assert rotated.open(sealed_by, sealed, "oauth") == "geheim"
    assert rotated.seal("geheim")[0] == key_id(KEYS[1])


def test_a_secret_that_no_key_opens_is_named(ledger: Ledger, secrets: Secrets) -> None:
    """The error names the credential and the key that sealed it, and no secret."""
    first_token(secrets)
    other = Secrets(ledger, Vault(KEYS[1:]), "account:1")
    with pytest.raises(FixFirst, match=rf"'oauth' was sealed with key {key_id(KEYS[0])}") as error:
        other.read("oauth")
    assert "access-1" not in str(error.value)


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_a_token_comes_back_as_it_was_stored(ledger: Ledger, secrets: Secrets) -> None:
    """Each save is the next version; nothing of it lies in the ledger in plain text."""
    assert secrets.read("oauth") is None
    token = first_token(secrets)
    assert token == Token("access-1", "refresh-1", 2_000_000_000.0, "read write", version=1, state="ok")
    lease = secrets.lease("oauth", "me", 1, 30)
    assert lease is not None
    assert secrets.save(lease, Token("access-2"))
    assert secrets.read("oauth") == Token("access-2", version=2)
    with ledger.reading() as tx:
        assert b"access" not in tx.execute(select(credential.c.sealed)).scalar_one()


@pytest.mark.parametrize("version", [0, 1], ids=["the first token", "a later token"])
def test_one_lease_at_a_time(secrets: Secrets, clock: SetClock, version: int) -> None:
    """Nobody else gets the lease while it lasts; its owner may again; after it has lapsed anybody may."""
    if version:
        first_token(secrets)
    assert secrets.lease("oauth", "me", version, 30) is not None
    assert secrets.lease("oauth", "you", version, 30) is None
    assert secrets.lease("oauth", "me", version, 30) is not None
    assert secrets.lease("other", "you", 0, 30) is not None
    clock.sleep(30)
    assert secrets.lease("oauth", "you", version, 30) is not None
    assert secrets.lease("oauth", "me", version, 30) is None


def test_a_lease_is_for_the_version_that_was_read(secrets: Secrets) -> None:
    """Who has read an older token gets no lease and reads again."""
    first_token(secrets)
    assert secrets.lease("oauth", "me", 0, 30) is None
    assert secrets.lease("oauth", "me", 2, 30) is None
    assert secrets.lease("oauth", "me", 1, 30) is not None


def test_a_late_save_over_a_newer_version_is_refused(secrets: Secrets, clock: SetClock) -> None:
    """A holder whose lease lapsed may still save over the version it had, and never over a newer one."""
    first_token(secrets)
    late = secrets.lease("oauth", "late", 1, 30)
    clock.sleep(31)
    quick = secrets.lease("oauth", "quick", 1, 30)
    assert late is not None
    assert quick is not None
    assert secrets.save(quick, Token("quick"))
    assert not secrets.save(late, Token("late"))
    assert secrets.read("oauth") == Token("quick", version=2)


def test_a_refused_refresh_token_asks_for_a_new_consent(secrets: Secrets, clock: SetClock) -> None:
    """`connect_again` marks the version that was refused; a token that is saved late after all ends it."""
    first_token(secrets)
    late = secrets.lease("oauth", "late", 1, 30)
    clock.sleep(31)
    lease = secrets.lease("oauth", "me", 1, 30)
    assert late is not None
    assert lease is not None
    secrets.release(lease, connect_again=True)
    refused = secrets.read("oauth")
    assert refused is not None
    assert (refused.state, refused.version, refused.access) == ("connect_again", 1, "access-1")
    assert secrets.save(late, Token("late"))
    assert secrets.read("oauth") == Token("late", version=2, state="ok")


def test_only_the_holder_gives_a_lease_back(secrets: Secrets) -> None:
    """A release by somebody else, or of an older version, changes nothing."""
    first_token(secrets)
    lease = secrets.lease("oauth", "me", 1, 30)
    assert lease is not None
    secrets.release(Lease("oauth", "you", 1, lease.until), connect_again=True)
    secrets.release(Lease("oauth", "me", 0, lease.until), connect_again=True)
    assert secrets.lease("oauth", "you", 1, 30) is None
    secrets.release(lease)
    assert secrets.lease("oauth", "you", 1, 30) is not None
    read = secrets.read("oauth")
    assert read is not None
    assert read.state == "ok"


def test_many_processes_refresh_once(open_ledger: Callable[[], Ledger]) -> None:
    """Of processes that find the same token stale, one refreshes it, each time anew."""

    def refresh(store: Secrets, owner: str, version: int) -> bool:
        lease = store.lease("oauth", owner, version, 30)
        return lease is not None and store.save(lease, Token(f"access of {owner}"))

    stores = [Secrets(open_ledger(), Vault(KEYS[:1]), "account:1") for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        for version in range(10):
            assert sum(threads.map(refresh, stores, "abcdef", [version] * 6)) == 1
    read = stores[0].read("oauth")
    assert read is not None
    assert read.version == 10


def test_plain_secrets_by_prefix(ledger: Ledger, secrets: Secrets) -> None:
    """Secrets are found by how their names start, which is no pattern; each holder has its own."""
    secrets.put("signing:1", "old")
    secrets.put("signing:1", "one")
    secrets.put("signing:2", "two")
    secrets.put("signingX", "no")
    secrets.put("sign_ng:3", "no")
    Secrets(ledger, secrets.vault, "account:2").put("signing:1", "theirs")
    assert secrets.with_prefix("signing:") == {"signing:1": "one", "signing:2": "two"}
    assert secrets.with_prefix("sign_ng") == {"sign_ng:3": "no"}
    assert secrets.with_prefix("%") == {}
