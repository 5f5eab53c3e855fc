"""The receiver's own role in PostgreSQL: enough to take deliveries, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import make_url, text
from sqlalchemy.exc import ProgrammingError

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger import Ledger, identity, tickets
from airflow_provider_qadzd.ledger.rights import grant_to_receiver
from airflow_provider_qadzd.ledger.vault import SIGNING, Secrets, Vault
from tests.conftest import Postgres
from tests.ledger.test_tickets import a_delivery

KEYS = {name: Vault([Fernet.generate_key().decode()]) for name in ("tokens", "signing")}


@pytest.fixture
def owners(postgres: Postgres) -> Iterator[Ledger]:
    """A ledger with a token and a signing secret, as its owner has it; the role `receiver` was let in, twice."""
    ledger = Ledger(postgres.new())
    ledger.upgrade()
    account = identity.account_at(ledger, "https://acme.zendesk.com")
    identity.note_onboarding(ledger, account.account_id, "w1")
    Secrets(ledger, KEYS["signing"], account.holder).put(f"{SIGNING}w1", "a secret")
    Secrets(ledger, KEYS["tokens"], account.holder).put("token:x", "a token")
    with postgres.admin.connect() as admin:
        admin.execute(text("DROP ROLE IF EXISTS receiver"))
        admin.execute(text("CREATE ROLE receiver LOGIN"))
    for _ in range(2):
        grant_to_receiver(ledger, "receiver")
    yield ledger
    with ledger.writing() as tx:
        tx.execute(text("DROP OWNED BY receiver"))
    ledger.engine.dispose()
    with postgres.admin.connect() as admin:
        admin.execute(text("DROP ROLE receiver"))


@pytest.fixture
def receivers(owners: Ledger) -> Iterator[Ledger]:
    """The same ledger, opened by that role."""
    ledger = Ledger(make_url(owners.engine.url).set(username="receiver").render_as_string(hide_password=False))
    yield ledger.opened()
    ledger.engine.dispose()


def test_it_takes_deliveries(owners: Ledger, receivers: Ledger) -> None:
    """It reads the accounts and their signing secrets, and stores deliveries, repeats too; the owner drains them."""
    (account,) = identity.onboarded_accounts(receivers)
    secrets = Secrets(receivers, KEYS["signing"], account.holder)
    assert secrets.with_prefix(SIGNING) == {f"{SIGNING}w1": "a secret"}
    assert tickets.store_deliveries(receivers, [a_delivery("s1", "p1"), a_delivery("s2")]) == [True, True]
    assert tickets.store_deliveries(receivers, [a_delivery("s1", "p1"), a_delivery("s2")]) == [False, True]
    pending = tickets.pending_deliveries(owners, account.account_id, 10)
    with owners.writing() as tx:
        assert len(tickets.end_deliveries(tx, owners, pending, "drained")) == 2


def test_it_sees_no_token(owners: Ledger, receivers: Ledger) -> None:
    """Sealed tokens are there for their owner, and for the receiver they are not."""
    asked = text("SELECT count(*) FROM qadzd_credential")
    with owners.reading() as all_of, receivers.reading() as some:
        assert (all_of.execute(asked).scalar_one(), some.execute(asked).scalar_one()) == (2, 1)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM qadzd_wanted", "SELECT * FROM qadzd_ticket", "SELECT * FROM qadzd_link",
        "DELETE FROM qadzd_inbox", "UPDATE qadzd_account SET slug = 'x'", "DELETE FROM qadzd_credential",
        "DROP TABLE qadzd_inbox",
    ],
)  # fmt: skip
def test_it_may_nothing_else(receivers: Ledger, statement: str) -> None:
    """Records, tickets and links are hidden from it, and it changes nothing but the inbox."""
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"), receivers.writing() as tx:
        tx.execute(text(statement))


def test_sqlite_has_no_roles(migrated_sqlite: object) -> None:
    """Asked for on SQLite, it says why not."""
    with pytest.raises(FixFirst, match="no roles"):
        grant_to_receiver(Ledger(f"sqlite:///{migrated_sqlite}"), "receiver")
