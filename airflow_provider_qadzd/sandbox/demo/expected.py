"""What should have come of the sandbox's records, worked out from the sandbox alone.

Nothing here knows the ledger or the sync. Customers and contacts are followed from QAD to the Zendesk records that
carry their keys; tickets are tied to customers by the rule as people would put it: by the ticket's organization, else
by its requester's only customer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

STAFF = ("agent", "admin")


@dataclass(frozen=True)
class Expected:
    """By key, what the ledger has to say too."""

    customers: Mapping[str, str]
    contacts: Mapping[str, str]
    organizations: Mapping[str, int]
    like_qad: Mapping[str, bool]
    customers_aside: Mapping[str, str]
    users: Mapping[str, int]
    shared: Mapping[str, str]
    contacts_aside: Mapping[str, str]
    memberships_asked: frozenset[tuple[str, str]]
    memberships: frozenset[tuple[str, str]]
    tickets: Mapping[int, tuple[Any, ...]]
    matches: Mapping[int, tuple[str, str | None]]


def expected_of(state: Mapping[str, Any], tickets_since: float, tickets_told: Collection[int] = ()) -> Expected:
    """Everything at once. The tickets are those that changed since `tickets_since` (Unix seconds), which the exports
    bring, and those of `tickets_told`, of which a webhook told.
    """
    customers = {row["code"]: row for row in state["qad"]["customers"]}
    contacts = {str(row["id"]): row for row in state["qad"]["contacts"]}
    organizations = {row["external_id"]: row for row in state["organizations"] if row["external_id"]}
    users = {row["external_id"]: row for row in state["users"] if row["external_id"]}
    shared = _sharing(contacts, users)
    pairs = _memberships(state, organizations, users)
    tickets = [
        row for row in state["tickets"] if row["generated_timestamp"] >= tickets_since or row["id"] in tickets_told
    ]
    return Expected(
        customers={code: row["name"] for code, row in customers.items()},
        contacts={key: row["email"] for key, row in contacts.items()},
        organizations={key: row["id"] for key, row in organizations.items()},
        like_qad={key: True for key, row in organizations.items() if _like_qad(row, customers.get(key))},
        customers_aside={code: "" for code in customers if code not in organizations},
        users={key: row["id"] for key, row in users.items()},
        shared=shared,
        contacts_aside=_aside(state, contacts, {*users, *shared}),
        memberships_asked=_asked(contacts, users, shared),
        memberships=pairs,
        tickets={
            row["id"]: (row["status"], row["requester_id"], row["organization_id"], row["updated_at"])
            for row in tickets
        },
        matches={row["id"]: _match(row, organizations, users, pairs) for row in tickets},
    )


def _like_qad(organization: Mapping[str, Any], customer: Mapping[str, Any] | None) -> bool:
    """Whether the organization says of its customer what QAD says."""
    if customer is None:
        return False
    fields = organization["organization_fields"]
    told = (
        fields.get("qad_customer"), fields.get("qad_status"), fields.get("qad_city"), fields.get("qad_country")
    )  # fmt: skip
    status = "active" if customer["active"] else "inactive"
    right = told == (customer["code"], status, customer["city"], customer["country"])
    return right and organization["name"] in (customer["name"], f"{customer['name']} ({customer['code']})")


def _sharing(contacts: Mapping[str, Any], users: Mapping[str, Any]) -> dict[str, str]:
    """Contacts without a user of their own whose mailbox another contact's user has: whose that is."""
    holders = {row["email"].lower(): key for key, row in users.items() if row["email"]}
    without = {key: row["email"].lower() for key, row in contacts.items() if key not in users and row["email"]}
    return {key: holders[email] for key, email in without.items() if email in holders}


def _aside(state: Mapping[str, Any], contacts: Mapping[str, Any], there: set[str]) -> dict[str, str]:
    """Contacts who have no user at all, and what stands in the way: a member of staff has the email."""
    staff = {row["email"].lower(): row for row in state["users"] if row["role"] in STAFF and row["email"]}
    found = {}
    for key, row in contacts.items():
        holder = staff.get(row["email"].lower())
        if key not in there:
            found[key] = f"email_of_{holder['role']} {holder['id']}" if holder else "nothing that the sandbox shows"
    return found


def _asked(contacts: Mapping[str, Any], users: Mapping[str, Any], shared: Mapping[str, str]) -> frozenset[Any]:
    """Whose user belongs to which customer, as QAD has it: a shared mailbox stands for all who share it."""
    owners = {key: shared.get(key, key) for key in contacts if key in users or key in shared}
    return frozenset((owner, code) for key, owner in owners.items() for code in contacts[key]["customers"])


def _memberships(state: Mapping[str, Any], homes: Mapping[str, Any], users: Mapping[str, Any]) -> frozenset[Any]:
    """The memberships that tie a contact's user to a customer's organization."""
    codes = {row["id"]: key for key, row in homes.items()}
    people = {row["id"]: key for key, row in users.items()}
    rows = state["organization_memberships"]
    ties = [(people.get(row["user_id"]), codes.get(row["organization_id"])) for row in rows]
    return frozenset(tie for tie in ties if None not in tie)


def _match(
    ticket: Mapping[str, Any], organizations: Mapping[str, Any], users: Mapping[str, Any], pairs: frozenset[Any]
) -> tuple[str, str | None]:
    """Why a ticket is a customer's, or nobody's."""
    code = next((key for key, row in organizations.items() if row["id"] == ticket["organization_id"]), None)
    if code is not None:
        return "organization", code
    person = next((key for key, row in users.items() if row["id"] == ticket["requester_id"]), None)
    if person is None:
        return "requester_unknown", None
    theirs = sorted(customer for contact, customer in pairs if contact == person)
    if len(theirs) == 1:
        return "requester", theirs[0]
    return ("ambiguous" if theirs else "requester_without_customer"), None
