"""A lost ledger's links, found again by the external ids that Zendesk has. Zendesk is only read.

A usual run after a loss would find most of it by itself. Only here are a contact's user and a mailbox's owner the ones
they were, memberships and second addresses looked for before they are asked for again, and twins told apart by how
their external ids are spelt. What was there and cannot be known any more is whether we had made it: every membership
that is found counts as not ours, and stays when QAD no longer asks for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger import Ledger, accounts, changes, looks, members
from airflow_provider_qadzd.ledger.applying import end_applier, take_applier
from airflow_provider_qadzd.ledger.changes import Ended
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.store import chunks
from airflow_provider_qadzd.records import Candidate, fold
from airflow_provider_qadzd.sync.draft import map_records
from airflow_provider_qadzd.sync.mapping import Rules
from airflow_provider_qadzd.sync.mirror import refresh_mirror
from airflow_provider_qadzd.sync.plan import Settled, decide
from airflow_provider_qadzd.sync.policies import Policies
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import NotFound

REBUILT = "rebuilt"
"""The detail of every link that was found again."""
_BATCH = 500
_FEW = 50
"""Lists of users asked for between two notes of what they told: the calls may be used up any time."""
_LEASE_SECONDS = 600.0
_KINDS: tuple[Literal["organization", "user"], ...] = ("organization", "user")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """By kind: the links now, QAD's records that have none, and external ids in Zendesk that are none of QAD's."""

    links: dict[str, int] = field(default_factory=dict)
    alone: dict[str, int] = field(default_factory=dict)
    strange: dict[str, int] = field(default_factory=dict)

    def summary(self) -> str:
        """What a person at the terminal wants to know."""
        found = ", ".join(f"{count} {kind}" for kind, count in self.links.items()) or "nothing"
        lines = [f"Linked now: {found}."]
        for kind, alone in self.alone.items():
            there = f"{self.strange[kind]} of Zendesk's have an external id that none of QAD's has"
            lines.append(f"Of {kind}s, {alone} of QAD's are not linked, and {there}.")
        return "\n".join(lines)


def rebuild(ledger: Ledger, flow: Flow, client: ZendeskClient, rules: Rules, run: str) -> Rebuilt:
    """Link again what belongs together, from what was last collected from QAD. It may be repeated and goes on.

    TryLater while another run applies changes to the account.
    """
    map_records(ledger, flow, rules)
    refresh_mirror(ledger, flow.account_id, client, mapping=rules.mapping)
    try:
        for kind in _KINDS:
            for page in _pages(ledger, flow, kind):
                _write(
                    ledger,
                    flow,
                    [one for one in (_found_again(c, rules.policies) for c in page) if one is not None],
                    run,
                )
        _memberships(ledger, flow, client, run)
        _identities(ledger, flow, client, run)
    finally:
        _give_back(ledger, flow, run)
    left = {kind: looks.unmatched(ledger, flow, kind) for kind in _KINDS}
    return Rebuilt(
        looks.links_by_kind(ledger, flow),
        {kind: alone for kind, (alone, _) in left.items()},
        {kind: strange for kind, (_, strange) in left.items()},
    )


def _write(ledger: Ledger, flow: Flow, ended: Sequence[Ended], run: str) -> None:
    """Links are written only by whoever may apply; the lease is taken again with each batch."""
    if ended:
        take_applier(ledger, flow.account_id, run, _LEASE_SECONDS)
        changes.end(ledger, flow, ended, run)


def _give_back(ledger: Ledger, flow: Flow, run: str) -> None:
    with contextlib.suppress(TryLater):  # another run has it, and keeps it
        end_applier(ledger, take_applier(ledger, flow.account_id, run, _LEASE_SECONDS))


# -- organizations and users -------------------------------------------------------------------------------------------


def _pages(ledger: Ledger, flow: Flow, kind: Literal["organization", "user"]) -> Iterator[list[Candidate]]:
    page: list[Candidate] = []
    for candidate in accounts.candidates(ledger, flow, kind):
        if candidate.link_id is None and candidate.by_external is not None:
            page.append(candidate)
        if len(page) == _BATCH:
            yield page
            page = []
    if page:
        yield page


def _found_again(c: Candidate, policies: Policies) -> Ended | None:
    """The link of a record that carries this external id, if the usual rules would adopt it for that.

    Where nothing is left to change the link says so; else it says that nobody knows what was written last.
    """
    there = c.by_external
    if there is None:
        return None
    if c.twin is not None and there.fields.get("external_id") == c.external_id:
        c = replace(c, twin=None)  # of two that Zendesk could not tell apart, this one spells it as it stands there
    decision = decide(c, policies)
    if decision.outcome != "adopted":
        return None
    agreed = c.fingerprint if isinstance(decision, Settled) else ""
    return Ended(
        c.kind, c.key, "adopted", REBUILT, linked=True, zendesk_id=there.zendesk_id, base=there.digest,
        fingerprint=agreed, remember=decision.remember,
    )  # fmt: skip


# -- memberships and addresses -----------------------------------------------------------------------------------------


def _memberships(ledger: Ledger, flow: Flow, client: ZendeskClient, run: str) -> None:
    """A default organization is told by the mirror; of who should be elsewhere as well, the list is asked for."""
    # All of them first: Zendesk is asked while none of the ledger's transactions is open.
    for some in chunks(list(accounts.missing_memberships(ledger, flow)), _FEW):
        users = members.linked_users(ledger, flow, (contact for contact, _ in some))
        organizations = members.linked_organizations(ledger, flow, (customer for _, customer in some))
        lists: dict[int, dict[int, int]] = {}
        ended = []
        for contact, customer in some:
            user, organization = users.get(contact), organizations.get(customer)
            if user is None or organization is None:
                continue
            if user.organization_id == organization:
                ended.append(_pair("membership", contact, customer, None))
                continue
            if user.zendesk_id not in lists:
                lists[user.zendesk_id] = _homes(client, user.zendesk_id)
            if organization in lists[user.zendesk_id]:
                ended.append(_pair("membership", contact, customer, lists[user.zendesk_id][organization]))
        _write(ledger, flow, ended, run)


def _homes(client: ZendeskClient, user_id: int) -> dict[int, int]:
    try:
        return {int(row["organization_id"]): int(row["id"]) for row in client.memberships.of_user(user_id)}
    except NotFound:
        return {}


def _identities(ledger: Ledger, flow: Flow, client: ZendeskClient, run: str) -> None:
    for some in chunks(accounts.missing_identities(ledger, flow), _FEW):
        users = members.linked_users(ledger, flow, (contact for contact, _ in some))
        ended = []
        for contact, email in some:
            found = _address(client, users[contact].zendesk_id, fold(email)) if contact in users else None
            if found is not None:
                ended.append(_pair("identity", contact, fold(email), found))
        _write(ledger, flow, ended, run)


def _address(client: ZendeskClient, user_id: int, address: str) -> int | None:
    try:
        rows = client.identities.of_user(user_id)
    except NotFound:
        return None
    return next((int(row["id"]) for row in rows if fold(row.get("value") or "") == address), None)


def _pair(kind: Literal["membership", "identity"], contact: str, other: str, zendesk_id: int | None) -> Ended:
    return Ended(kind, contact, "adopted", REBUILT, other=other, linked=True, zendesk_id=zendesk_id, ours=False)
