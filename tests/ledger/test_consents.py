"""Requests for consent: sealed, taken once, by the one who made them, within their time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.consents import LIFE, Consents, Pending, UnknownState
from airflow_provider_qadzd.ledger.schema import credential
from airflow_provider_qadzd.ledger.vault import Secrets, Vault
from airflow_provider_qadzd.records import Token
from tests.conftest import SetClock

VAULT = Vault([Fernet.generate_key().decode()])
PENDING = Pending("anna", "zendesk_default", "https://acme.zendesk.com", "client", "the-verifier")


@pytest.fixture
def consents(ledger: Ledger) -> Consents:
    """No requests yet."""
    return Consents(ledger, VAULT)


def rows(ledger: Ledger) -> list[bytes]:
    """Everything that is kept, as stored."""
    with ledger.reading() as tx:
        return [repr(tuple(row)).encode() for row in tx.execute(select(credential))]


def test_a_request_comes_back_once(consents: Consents) -> None:
    """Its maker gets it with its verifier; the second time there is none."""
    consents.keep("state", PENDING)
    assert consents.take("state", "anna") == PENDING
    with pytest.raises(UnknownState, match="used already"):
        consents.take("state", "anna")


def test_neither_state_nor_verifier_is_readable(consents: Consents, ledger: Ledger) -> None:
    """What is stored gives neither away, and neither does the request when it is printed."""
    consents.keep("the-state-itself", PENDING)
    (row,) = rows(ledger)
    assert b"the-state-itself" not in row
    assert b"the-verifier" not in row
    assert "the-verifier" not in repr(PENDING)


def test_another_user_gets_nothing_and_ends_it(consents: Consents) -> None:
    """A state in the wrong hands is refused, and is of no more use to anybody."""
    consents.keep("state", PENDING)
    with pytest.raises(FixFirst, match="another Airflow user"):
        consents.take("state", "bert")
    with pytest.raises(UnknownState):
        consents.take("state", "anna")


@pytest.mark.parametrize("waited", [LIFE - 1, LIFE, LIFE + 1], ids=["just under", "just at", "just over"])
def test_a_request_lasts_its_time(waited: float, consents: Consents, clock: SetClock) -> None:
    """Ten minutes and no more."""
    consents.keep("state", PENDING)
    clock.now += waited
    if waited <= LIFE:
        assert consents.take("state", "anna") == PENDING
        return
    with pytest.raises(FixFirst, match="older than 10 minutes"):
        consents.take("state", "anna")


def test_what_nobody_came_back_to_is_cleared_away(consents: Consents, ledger: Ledger, clock: SetClock) -> None:
    """A new request takes the expired ones with it, and leaves tokens and requests of today alone."""
    tokens = Secrets(ledger, VAULT, "account:1")
    lease = tokens.lease("token", "me", 0, 90)
    assert lease is not None
    tokens.save(lease, Token("access"))
    consents.keep("old", PENDING)
    clock.now += LIFE + 1
    consents.keep("new", PENDING)
    consents.keep("newer", replace(PENDING, user="bert"))
    assert len(rows(ledger)) == 3
    assert consents.take("new", "anna") == PENDING
    assert tokens.read("token") is not None


def test_only_one_of_many_gets_it(open_ledger: Callable[[], Ledger]) -> None:
    """Taken by eight at once, it is given to one, on either database."""
    Consents(open_ledger(), VAULT).keep("state", PENDING)
    all_ready, given, refused = threading.Barrier(8), [], []

    def take(own: Consents) -> None:
        all_ready.wait()
        try:
            given.append(own.take("state", "anna"))
        except UnknownState:
            refused.append(1)

    threads = [threading.Thread(target=take, args=[Consents(open_ledger(), VAULT)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(given), len(refused)) == (1, 7)


def test_without_its_key_a_request_is_told(consents: Consents, ledger: Ledger) -> None:
    """A request sealed with a key that is gone is FixFirst, not a crash."""
    consents.keep("state", PENDING)
    with pytest.raises(FixFirst, match="not among the keys"):
        Consents(ledger, Vault([Fernet.generate_key().decode()])).take("state", "anna")


def test_a_token_is_forgotten_unless_it_is_being_renewed(ledger: Ledger, clock: SetClock) -> None:
    """`forget` leaves nothing behind; while somebody renews the token it does nothing and says so."""
    tokens = Secrets(ledger, VAULT, "account:1")
    lease = tokens.lease("token", "me", 0, 90)
    assert lease is not None
    tokens.save(lease, Token("access"))
    assert tokens.lease("token", "me", 1, 90)
    assert tokens.forget("token") is False
    assert tokens.read("token") is not None
    clock.now += 91
    assert tokens.forget("token") is True
    assert rows(ledger) == []
    assert tokens.forget("token") is True
