"""Which source, account and flow a connection means: found by what it points at, never by its name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger import Ledger, identity
from tests.conftest import SetClock
from tests.ledger.rows import QAD, ZENDESK, a_flow


def test_a_source_is_its_address_and_workspaces_in_any_order(ledger: Ledger) -> None:
    """The same address with the same workspaces is the same source; with others it is another one."""
    first = identity.source_id_of(ledger, QAD, ("10USA", "20EU"))
    assert identity.source_id_of(ledger, QAD, ("20EU", "10USA")) == first
    assert identity.source_id_of(ledger, QAD, ("10USA",)) != first
    assert identity.source_id_of(ledger, "https://test.example.com/clouderp", ("10USA", "20EU")) != first


@pytest.mark.parametrize(
    ("addresses", "slugs"),
    [
        pytest.param(["https://acme.zendesk.com"], ["acme"], id="a Zendesk host gives its first label"),
        pytest.param(["http://localhost:8123"], ["localhost-8123"], id="another host is spelt without dots"),
        pytest.param(
            ["https://acme.zendesk.com", "http://acme.zendesk.com"], ["acme", "acme-2"], id="a taken one is numbered"
        ),
    ],
)
def test_each_account_has_a_slug_of_its_own(ledger: Ledger, addresses: list[str], slugs: list[str]) -> None:
    """An account's slug comes from its host, once, and stays."""
    assert [identity.account_at(ledger, address).slug for address in addresses] == slugs
    assert [identity.account_at(ledger, address).slug for address in addresses] == slugs


def test_an_account_names_the_holder_of_its_credentials(ledger: Ledger) -> None:
    """Two accounts never share a credential."""
    here, there = identity.account_at(ledger, ZENDESK), identity.account_at(ledger, "https://other.zendesk.com")
    assert here.holder == f"account:{here.account_id}"
    assert here.holder != there.holder


def test_the_day_of_the_first_onboarding_stays(ledger: Ledger, clock: SetClock) -> None:
    """A second onboarding replaces the webhook and keeps the day; other accounts are not onboarded."""
    account = identity.account_at(ledger, ZENDESK)
    identity.account_at(ledger, "https://other.zendesk.com")
    identity.note_onboarding(ledger, account.account_id, "first")
    day = identity.account_at(ledger, ZENDESK).onboarded_at
    clock.sleep(86400)
    identity.note_onboarding(ledger, account.account_id, "second")
    (onboarded,) = identity.onboarded_accounts(ledger)
    assert (onboarded.webhook_id, onboarded.onboarded_at) == ("second", day)


def test_a_flow_is_found_again_by_its_name(ledger: Ledger) -> None:
    """The same name with the same ends and templates is the same flow."""
    assert a_flow(ledger) == a_flow(ledger)


@pytest.mark.parametrize(
    ("moved", "told"),
    [
        pytest.param({"qad": "https://test.example.com"}, "another source id;", id="another QAD"),
        pytest.param({"zendesk": "https://test.zendesk.com"}, "another account id;", id="another Zendesk account"),
        pytest.param({"part": "eu-"}, "another organization template, user template;", id="other key templates"),
    ],
)
def test_a_flow_that_was_pointed_elsewhere_is_refused(ledger: Ledger, moved: dict[str, str], told: str) -> None:
    """A flow whose end or template has changed is for a person to mend; its links belong to the old one."""
    a_flow(ledger)
    with pytest.raises(FixFirst, match=told):
        a_flow(ledger, **moved)


def test_a_second_flow_into_an_account_needs_templates_of_its_own(ledger: Ledger) -> None:
    """Two flows into one account never write the same external ids; into two accounts they may."""
    a_flow(ledger)
    with pytest.raises(FixFirst, match="same external ids as flow 'default'"):
        a_flow(ledger, "eu", qad="https://eu.example.com")
    assert a_flow(ledger, "eu", qad="https://eu.example.com", part="eu-").name == "eu"
    assert a_flow(ledger, "test", zendesk="https://test.zendesk.com").name == "test"


def test_one_template_alone_does_not_set_two_flows_apart(ledger: Ledger) -> None:
    """Both templates of a second flow must be its own."""
    first = a_flow(ledger)
    with pytest.raises(FixFirst, match="same external ids"):
        identity.flow_named(ledger, "eu", first.source_id, first.account_id, "eu-{code}", "{contact}")


def test_many_processes_meet_a_new_connection_at_once(open_ledger: Callable[[], Ledger]) -> None:
    """Whoever comes first makes the row, and all get the same one."""
    ledgers = [open_ledger() for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        flows = set(threads.map(a_flow, ledgers))
        addresses = [f"{scheme}://same.zendesk.com" for scheme in ("http", "https") * 3]
        accounts = list(threads.map(identity.account_at, ledgers, addresses))
    assert len(flows) == 1
    assert {(one.base_url, one.slug) for one in accounts} in (
        {("http://same.zendesk.com", "same"), ("https://same.zendesk.com", "same-2")},
        {("http://same.zendesk.com", "same-2"), ("https://same.zendesk.com", "same")},
    )


def test_two_new_flows_of_one_template_race_for_an_account(open_ledger: Callable[[], Ledger]) -> None:
    """Of two flows that would write the same external ids, started at once, one is refused."""

    def make(number: int, zendesk: str) -> bool:
        start.wait(timeout=30)
        try:
            identity.flow_named(
                ledgers[number], f"{zendesk} {number}", number, accounts[zendesk], "{code}", "{contact}"
            )  # fmt: skip
        except FixFirst:
            return False
        return True

    ledgers = [open_ledger() for _ in range(4)]
    accounts = {url: identity.account_at(ledgers[0], url).account_id for url in (f"{ZENDESK}/{n}" for n in range(20))}
    start = threading.Barrier(4)
    with ThreadPoolExecutor(4) as threads:
        made = [sum(threads.map(make, range(4), [url] * 4)) for url in accounts]
    assert made == [1] * 20
