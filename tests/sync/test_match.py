"""Whose ticket it is, and why."""

from __future__ import annotations

import pytest

from airflow_provider_qadzd.records import Owner
from airflow_provider_qadzd.sync.match import Match, match

A, B, C = Owner(1, "C1"), Owner(1, "C2"), Owner(2, "C9")


@pytest.mark.parametrize(
    ("organization", "requester_id", "linked", "customers", "found"),
    [
        pytest.param(A, 7, True, [B], Match(A, "organization"), id="the organization goes before the requester"),
        pytest.param(A, None, False, [], Match(A, "organization"), id="an organization and no requester"),
        pytest.param(None, None, False, [], Match(None, "no_requester"), id="neither"),
        pytest.param(None, 7, True, [B], Match(B, "requester"), id="the requester's only customer"),
        pytest.param(None, 7, True, [B, A], Match(None, "ambiguous", "C1, C2"), id="several customers, in order"),
        pytest.param(None, 7, True, [C, A], Match(None, "ambiguous", "C1, C9"), id="several flows"),
        pytest.param(None, 7, True, [], Match(None, "requester_without_customer"), id="a contact of nobody"),
        pytest.param(None, 7, False, [], Match(None, "requester_unknown"), id="nobody that QAD knows"),
    ],
)
def test_every_reason(
    organization: Owner | None, requester_id: int | None, linked: bool, customers: list[Owner], found: Match
) -> None:
    """A ticket has a customer, or the reason for none, whatever is known of it."""
    assert match(organization, requester_id, linked, customers) == found
