"""Which QAD customer a ticket belongs to. Pure: given what the links say, it answers with a reason in any case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_provider_qadzd.records import Owner


@dataclass(frozen=True, slots=True)
class Match:
    """The ticket's customer, or why there is none.

    `reason`: `organization` (the ticket's organization is this customer's), `requester` (the requester's only
    customer), `ambiguous` (the requester belongs to several; `detail` lists them), `requester_without_customer`,
    `requester_unknown` (nobody QAD knows), `no_requester`.
    """

    owner: Owner | None
    reason: str
    detail: str = ""


def match(
    organization: Owner | None, requester_id: int | None, requester_linked: bool, customers: Sequence[Owner]
) -> Match:
    """The customer of a ticket.

    `organization` is whose organization the ticket is in, if it is linked; `requester_linked` whether the requester
    is a QAD contact's user; `customers` are the customers that the requester belongs to.
    """
    # The ticket says it itself.
    if organization is not None:
        return Match(organization, "organization")
    if requester_id is None:
        return Match(None, "no_requester")
    # The requester belongs to one customer, so the ticket does.
    if len(customers) == 1:
        return Match(customers[0], "requester")
    # Guessing among several would file somebody's ticket under somebody else.
    if customers:
        return Match(None, "ambiguous", ", ".join(sorted(owner.customer for owner in customers)))
    return Match(None, "requester_without_customer" if requester_linked else "requester_unknown")
