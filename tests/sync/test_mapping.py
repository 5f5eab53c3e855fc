"""From a QAD record to what Zendesk should have: templates, emails, names, states."""

from __future__ import annotations

import pytest

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.records import Contact, Customer
from airflow_provider_qadzd.sync.mapping import DEFAULT, Rules, organization_of, suffixed, user_of

CUSTOMER = Customer("C1", "Acme", shared_set="CUST", domain="US")
CONTACT = Contact("C1", "Ada Lovelace", contact_id="7", shared_set="CUST", domain="US")


@pytest.mark.parametrize(
    ("template", "code", "external_id"),
    [
        pytest.param("{code}", "C1", "C1", id="the code"),
        pytest.param("{shared_set}:{code}", "C1", "CUST:C1", id="a scope before it"),
        pytest.param("{domain}:{code}", "C1", "US:C1", id="the domain before it"),
        pytest.param("eu-{code}", "c1", "eu-c1", id="text before it, case kept"),
        pytest.param("{code}", "A,B", "A%2CB", id="a comma"),
        pytest.param("{code}", "50%", "50%25", id="a percent sign"),
        pytest.param("{code}", "A%2CB", "A%252CB", id="what looks encoded"),
        pytest.param("{code}", "Å 1/2&3", "Å 1/2&3", id="anything else stays"),
    ],
)
def test_external_ids_of_organizations(template: str, code: str, external_id: str) -> None:
    """A key fills the template; what would break a list of ids is percent-encoded, and nothing else."""
    wanted = organization_of(Customer(code, "Acme", shared_set="CUST", domain="US"), Rules(organization=template))
    assert wanted.external_id == wanted.body["external_id"] == external_id
    assert (wanted.key, wanted.body["organization_fields.qad_customer"]) == (code, code)


@pytest.mark.parametrize(
    ("template", "external_id"),
    [("{contact}", "7"), ("{shared_set}-{contact}", "CUST-7"), ("{domain}/{contact}", "US/7")],
)
def test_external_ids_of_users(template: str, external_id: str) -> None:
    """A contact's key fills the user template."""
    assert user_of(CONTACT, Rules(user=template)).external_id == external_id


@pytest.mark.parametrize("template", ["{customer}", "{}", "{0}", "{code", "{code!x}"])
def test_a_template_that_cannot_be_filled(template: str) -> None:
    """A template with a part that is not there is a person's to mend, and what it may use is named."""
    with pytest.raises(FixFirst, match="code, domain, shared_set"):
        organization_of(CUSTOMER, Rules(organization=template))


@pytest.mark.parametrize(
    ("given", "email"),
    [
        pytest.param("ada@acme.example", "ada@acme.example", id="good"),
        pytest.param("  Ada@Acme.example ", "Ada@Acme.example", id="spaces around"),
        pytest.param("", "", id="none"),
        pytest.param("see order notes", "", id="a remark"),
        pytest.param("ada@acme", "", id="no dot"),
        pytest.param("a@x.example; b@x.example", "", id="two"),
        pytest.param("a@x.example,b@x.example", "", id="two by comma"),
        pytest.param("Ada <ada@acme.example>", "", id="with a name"),
        pytest.param("ada@@acme.example", "", id="two at signs"),
        pytest.param("n/a", "", id="n/a"),
        pytest.param("ada@acme.", "", id="ends in a dot"),
    ],
)
def test_emails(given: str, email: str) -> None:
    """A usable email is kept as spelt; anything else makes a user without email."""
    wanted = user_of(Contact("C1", "Ada", contact_id="7", email=given), Rules())
    assert (wanted.email, wanted.body["email"], wanted.aside) == (email, email or None, "")


@pytest.mark.parametrize("name", ["", "   ", "\t\n"], ids=["empty", "spaces", "other white space"])
def test_without_a_name(name: str) -> None:
    """Without a name there is no organization and no user, and the reason says so."""
    assert organization_of(Customer("C1", name), Rules()).aside == "no_name"
    assert user_of(Contact("C1", name, contact_id="7"), Rules()).aside == "no_name"


def test_names_are_tidied() -> None:
    """White space in a name is made single, as Zendesk would."""
    assert organization_of(Customer("C1", "  Acme   & Sons\t Ltd "), Rules()).name == "Acme & Sons Ltd"
    assert suffixed("Acme", "C1") == "Acme (C1)"


@pytest.mark.parametrize(("active", "status"), [(True, "active"), (False, "inactive")])
def test_the_status(active: bool, status: str) -> None:
    """The field says whether QAD has the customer active."""
    assert organization_of(Customer("C1", "Acme", active), Rules()).body["organization_fields.qad_status"] == status


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("", None),
        ("https://qad.example/c/{code}", "https://qad.example/c/C1"),
        ("https://qad.example/{domain}/{shared_set}/{code}", "https://qad.example/US/CUST/C1"),
    ],
)
def test_the_link_to_the_customer_page(page: str, link: str | None) -> None:
    """The organization links to the customer's page in QAD where its address is known."""
    assert organization_of(CUSTOMER, Rules(customer_page=page)).body["organization_fields.qad_link"] == link


def test_orders_and_billing_are_links_and_nothing_else() -> None:
    """Agents get two more addresses, whose parts cannot break out of them; what stands there stays in QAD."""
    rules = Rules(orders_page="https://q/x/#/orders?c={code}", billing_page="https://q/x/#/invoices/{domain}/{code}")
    body = organization_of(Customer("A/1&b={code}", "Acme", domain="D 1"), rules).body
    assert body["organization_fields.qad_orders"] == "https://q/x/#/orders?c=A%2F1%26b%3D%7Bcode%7D"
    assert body["organization_fields.qad_billing"] == "https://q/x/#/invoices/D%201/A%2F1%26b%3D%7Bcode%7D"
    assert organization_of(CUSTOMER, Rules()).body["organization_fields.qad_orders"] is None


def test_nothing_is_mapped_that_is_not_compared() -> None:
    """Every mapped field is compared, but for those that are written at creation only."""
    assert set(organization_of(CUSTOMER, Rules()).body) == set(DEFAULT.compared("organization"))
    assert set(user_of(CONTACT, Rules()).body) - set(DEFAULT.compared("user")) == {"email", "phone"}


def test_primary_contacts_come_first() -> None:
    """Of contacts with one email, the primary one has the lower rank."""
    ranks = [user_of(Contact("C1", "Ada", contact_id="7", primary=first), Rules()).rank for first in (True, False)]
    assert ranks == [0, 1]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(Rules(), Rules(), True, id="equal"),
        pytest.param(Rules(), Rules(organization="eu-{code}"), False, id="another template"),
        pytest.param(Rules(), Rules(user="eu-{contact}"), False, id="another user template"),
        pytest.param(Rules(), Rules(customer_page="https://x/{code}"), False, id="another page"),
        pytest.param(Rules(), Rules(orders_page="https://x/{code}"), False, id="another page of orders"),
        pytest.param(Rules(), Rules(billing_page="https://x/{code}"), False, id="another page of invoices"),
    ],
)
def test_rules_tell_when_to_map_again(one: Rules, other: Rules, same: bool) -> None:
    """The digest of the rules changes with what they make."""
    assert (one.digest == other.digest) is same


def test_a_contact_without_an_id_has_a_stable_key() -> None:
    """Without an id, who somebody is makes the key: where, as what, and the name whatever its case."""
    one = Contact("C1", "Ada Lovelace", business_relation="BR1", address_type="contact")
    same = Contact("C2", " ADA lovelace ", business_relation="BR1", address_type="contact", email="new@x.example")
    others = [
        Contact("C1", "Ada Byron", business_relation="BR1", address_type="contact"),
        Contact("C1", "Ada Lovelace", business_relation="BR2", address_type="contact"),
        Contact("C1", "Ada Lovelace", business_relation="BR1", address_type="reminder"),
    ]
    assert one.key == same.key
    assert len({one.key, *(other.key for other in others)}) == 4
