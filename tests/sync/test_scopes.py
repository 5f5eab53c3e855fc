"""Customers of one code in several scopes, from QAD's pages to what Zendesk should have."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.schema import qad_contact_of, wanted
from airflow_provider_qadzd.qad.client import QadSettings
from airflow_provider_qadzd.sync.collect import collect
from airflow_provider_qadzd.sync.draft import map_records
from airflow_provider_qadzd.sync.mapping import Rules
from tests.qad.replies import BASE, Replies, client_of, field_list, page

WORKSPACES = ("D1_CO", "D2_CO")
SETTINGS: dict[str, Any] = {
    "customer_columns": {"code": "c.code", "name": "c.name"},
    "contact_columns": {"customer": "a.code", "name": "a.name", "business_relation": "a.br"},
    "workspaces": WORKSPACES,
}


def wanted_after(ledger: Ledger, settings: QadSettings, template: str, second_name: str) -> tuple[Any, Any, Any]:
    """Wanted organizations (external id and reason set aside), users, and pairs, after C1 was read in two domains."""
    ann = {"a.code": "C1", "a.name": "Ann", "a.br": "BR1"}
    replies = Replies(
        field_list("c.code", "c.name"), page({"c.code": "C1 ", "c.name": "Acme"}),
        page({"c.code": "C1", "c.name": second_name}), field_list(*ann), page(ann), page({**ann, "a.name": "ANN "}),
    )  # fmt: skip
    source_id = identity.source_id_of(ledger, BASE, WORKSPACES)
    account = identity.account_at(ledger, "https://acme.zendesk.com")
    flow = identity.flow_named(ledger, "default", source_id, account.account_id, template, "{contact}")
    collect(ledger, source_id, client_of(replies, settings), "run")
    map_records(ledger, flow, Rules(organization=template))
    w, c = wanted.c, qad_contact_of.c
    with ledger.reading() as tx:
        organizations = tx.execute(
            select(w.external_id, w.aside).where(w.kind == "organization").order_by(w.record_key)
        )
        users = tx.execute(select(w.record_key).where(w.kind == "user"))
        pairs = tx.execute(select(c.customer_key).order_by(c.customer_key))
        return [tuple(row) for row in organizations], list(users.scalars()), list(pairs.scalars())


def test_domains_with_sets_of_their_own_give_two_organizations(ledger: Ledger) -> None:
    """One code for two companies is two organizations; a person of one business relation is one user in both."""
    settings = QadSettings(**SETTINGS, customer_scope="domain")
    organizations, users, pairs = wanted_after(ledger, settings, "{domain}:{code}", "Zenith")
    assert organizations == [("D1:C1", ""), ("D2:C1", "")]
    assert (len(users), pairs) == (1, ["d1:C1", "d2:C1"])


@pytest.mark.parametrize("scope", ["shared_set", "none"])
def test_domains_that_share_a_set_give_one_organization(ledger: Ledger, scope: str) -> None:
    """The same customer seen in two domains is one organization, and its contact is in it once."""
    settings = QadSettings(**SETTINGS, customer_scope=scope, shared_sets={"*": "All"})
    organizations, users, pairs = wanted_after(ledger, settings, "{shared_set}:{code}", "Acme")
    assert organizations == [("All:C1", "")]
    assert (len(users), len(pairs)) == (1, 1)


def test_two_companies_under_one_code_are_set_aside_where_no_scope_tells_them_apart(ledger: Ledger) -> None:
    """Without a scope one code with two names is a contradiction, and neither of them is guessed."""
    organizations, _, _ = wanted_after(ledger, QadSettings(**SETTINGS), "{code}", "Zenith")
    assert [(external_id, bool(aside)) for external_id, aside in organizations] == [("C1", True)]
