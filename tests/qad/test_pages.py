"""The pages in QAD that agents are sent to, and the figures that never come from there."""

from __future__ import annotations

import pytest

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.qad.client import QadSettings
from airflow_provider_qadzd.qad.columns import found_columns
from airflow_provider_qadzd.qad.http import page_template

BASE = "https://qad.example.invalid/clouderp"


@pytest.mark.parametrize("name", ["customer_url", "orders_url", "billing_url"])
def test_each_page_has_a_default_at_the_instance(name: str) -> None:
    """Customer, orders and billing are pages of the same instance unless the site says otherwise."""
    filled = page_template(getattr(QadSettings(), name), BASE, name, "connection x")
    assert filled.startswith(f"{BASE}/")
    assert "{code}" in filled


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        pytest.param("", "", id="none: the field stays empty"),
        pytest.param("https://else/{shared_set}/{domain}/{code}", "https://else/{shared_set}/{domain}/{code}",
                     id="another address, with every part"),
        pytest.param("{base_url}/c/{code}", "https://q/%7Bcode%7D/c/{code}", id="braces in the address itself"),
    ],
)  # fmt: skip
def test_a_template_is_filled_with_the_address(template: str, filled: str) -> None:
    """What remains are the customer's own parts."""
    assert page_template(template, "https://q/{code}", "orders_url", "connection x") == filled


@pytest.mark.parametrize(
    "template",
    [
        "javascript:alert(1)//{code}",
        "{base_url}/{credit}",
        "{base_url}/{",
        "{base_url}/{code.x}",
        "{base_url}/{0}",
        "x",
    ],
)
def test_what_is_no_page_is_refused(template: str) -> None:
    """A template that agents could not open, or that holds an unknown part, names its setting."""
    with pytest.raises(FixFirst, match="connection x: orders_url is not the address of a page"):
        page_template(template, BASE, "orders_url", "connection x")


@pytest.mark.parametrize(
    "column", ["cm_mstr.cm_cr_limit", "customerV2.creditLimit", "debtor.Balance", "so_mstr.OpenItemsAmount"]
)
def test_a_financial_figure_is_refused_where_it_is_named(column: str) -> None:
    """Orders, invoices and balances stay in QAD, whatever a mapping file names."""
    with pytest.raises(FixFirst, match=r"line 3.*financial figure, which stays in QAD.*qad_billing"):
        found_columns({column: "line 3"}, [column], [], "connection x")


@pytest.mark.parametrize("column", ["customerV2.creditTermsCode", "customerV2.currencyCode", "customerV2.customCombo0"])
def test_a_code_is_no_figure(column: str) -> None:
    """Terms and currencies are words that agents may need."""
    assert found_columns({column: "line 3"}, [column], [], "connection x") == {column: column}
