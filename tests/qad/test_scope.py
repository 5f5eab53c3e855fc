"""Within what a customer code is unique: shared sets, domains, and what a customer is then kept under."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from airflow_provider_qadzd.errors import FixFirst, SetAside
from airflow_provider_qadzd.qad.client import QadSettings
from airflow_provider_qadzd.qad.scope import Scope, domain_of
from airflow_provider_qadzd.records import Contact, Customer
from tests.qad.replies import Replies, client_of, field_list, page

ACME = Customer("C1", "Acme", domain="D1", shared_set="AllCustomers")


@pytest.mark.parametrize(
    ("of", "customer", "key"),
    [
        pytest.param("none", ACME, "C1", id="codes are unique everywhere"),
        pytest.param("shared_set", ACME, "allcustomers:C1", id="within a shared set"),
        pytest.param("domain", ACME, "d1:C1", id="within a domain"),
        pytest.param("domain", replace(ACME, domain="D:1"), "d%3a1:C1", id="a colon is not taken for the scope's end"),
    ],
)
def test_a_customer_is_kept_under_its_code_within_its_scope(of: str, customer: Customer, key: str) -> None:
    """The key is the code, with the scope in front where codes are not unique in the whole instance."""
    assert Scope(of).placed(customer).key == key


def test_domains_that_share_a_set_show_one_customer() -> None:
    """The same customer seen from two domains of one set has one key; from two sets, two."""
    sets = Scope.checked("shared_set", {"d1": "Shared", "D2": "Shared ", "*": "Own"}, "x")
    seen = [sets.placed(Customer("C1", "Acme", domain=domain)).key for domain in ("D1", "d2", "D3")]
    assert seen == ["shared:C1", "shared:C1", "own:C1"]


def test_what_the_row_says_counts_before_the_setting() -> None:
    """A shared set in the row is the truth; the setting fills what rows leave out."""
    scope = Scope("shared_set", {"*": "Other"})
    assert scope.placed(ACME).shared_set == "AllCustomers"
    assert scope.placed(Customer("C1", "Acme")).shared_set == "Other"


def test_a_contact_belongs_to_the_customer_of_its_scope() -> None:
    """A contact and its customer meet under one key, however the domain is spelt."""
    contact = Scope("domain").placed(Contact("C1", "Ann", domain="d1"))
    assert contact.customer_key == Scope("domain").placed(ACME).key


def test_a_contact_without_id_is_another_person_in_another_domain() -> None:
    """Without an id and a business relation, who somebody is depends on whose contact it is."""
    ann = [Scope("domain").placed(Contact("C1", "Ann", domain=domain)).key for domain in ("D1", "D2", "d1")]
    assert ann[0] == ann[2] != ann[1]


@pytest.mark.parametrize("of", ["shared_set", "domain"])
def test_a_record_without_its_scope_is_set_aside(of: str) -> None:
    """It might be somebody else's, so it is never guessed."""
    with pytest.raises(SetAside) as caught:
        Scope(of).placed(Customer("C1", "Acme"))
    assert caught.value.reason == f"no_{of}"


def test_an_unknown_scope_is_named() -> None:
    """A misspelt scope is refused before anything is read."""
    with pytest.raises(FixFirst, match=r"connection x: customer_scope 'set'.*none, shared_set, domain"):
        Scope.checked("set", {}, "connection x")


@pytest.mark.parametrize(
    ("workspace", "domain"),
    [
        pytest.param("10USA_10USACO", "10USA", id="domain and entity"),
        pytest.param("10_USA_10USACO", "", id="an underscore too many: nobody can say"),
        pytest.param("10USA", "", id="no entity"),
        pytest.param("", "", id="the user's default"),
    ],
)
def test_a_workspace_tells_its_domain_where_it_can(workspace: str, domain: str) -> None:
    """`<domain>_<entity>` is taken apart only where there is one way to do it."""
    assert domain_of(workspace) == domain


def test_workspaces_of_one_set_do_not_duplicate_and_of_two_do_not_merge() -> None:
    """The same code read through two workspaces is two customers by domain, and one by their common set."""
    one, other = page({"c.code": "C1", "c.name": "Acme"}), page({"c.code": " C1 ", "c.name": "Acme"})
    for scope, sets, keys in (("domain", {}, ["d1:C1", "d2:C1"]), ("shared_set", {"*": "All"}, ["all:C1"] * 2)):
        replies = Replies(field_list("c.code", "c.name"), one, other)
        settings = QadSettings(
            customer_columns={"code": "c.code", "name": "c.name"}, workspaces=("D1_CO", "D2_CO"),
            customer_scope=scope, shared_sets=sets,
        )  # fmt: skip
        read = client_of(replies, settings).customers()
        assert [customer.key for found in read for customer in found] == keys
