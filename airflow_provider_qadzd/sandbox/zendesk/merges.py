"""Merging: an organization into another, which takes a while, and an end user into another, which is done at once.

https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/
https://developer.zendesk.com/api-reference/ticketing/users/users/
The loser is deleted. Its people, tickets and domain names, or its identities and tickets, go to the winner; its other
fields are lost, the external id among them.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..web import Call, Reply, reply_json
from . import identities, memberships, organizations, people
from .errors import Invalid, bad_request, not_found
from .models import Organization, User

if TYPE_CHECKING:
    from ..state import State


@dataclass(slots=True)
class Merge:
    """One merge of organizations. It is in progress from the middle of its time."""

    id: str
    loser_id: int
    winner_id: int
    begun: float
    due: float
    ended: str | None = None

    def shown(self, state: State) -> dict[str, Any]:
        under_way = self.due > self.begun and state.now >= (self.begun + self.due) / 2
        return {
            "id": self.id,
            "url": state.zendesk.url("organization_merges", self.id),
            "loser_id": self.loser_id,
            "winner_id": self.winner_id,
            "status": self.ended or ("in_progress" if under_way else "new"),
        }


class Merges:
    """Every merge that was asked for."""

    def __init__(self) -> None:
        self.all: dict[str, Merge] = {}
        self._open: list[Merge] = []

    def add(self, merge: Merge) -> None:
        self.all[merge.id] = merge
        self._open.append(merge)

    def settle(self, state: State) -> None:
        """Let the merges that are due take effect."""
        if not self._open:
            return
        for merge in [merge for merge in self._open if merge.due <= state.now]:
            self._open.remove(merge)
            store = state.zendesk
            loser, winner = store.organizations.get(merge.loser_id), store.organizations.get(merge.winner_id)
            merge.ended = "error" if loser is None or winner is None else "complete"
            if loser is not None and winner is not None:
                merge_organizations(state, loser, winner)


def merge_organizations(state: State, loser: Organization, winner: Organization) -> None:
    """Move people, tickets and domain names, and delete the loser."""
    store = state.zendesk
    for ticket in [ticket for ticket in store.tickets if ticket.organization_id == loser.id]:
        ticket.organization_id = winner.id
        ticket.generated_timestamp = int(state.now)
        store.tickets.changed(ticket, state.now)
    for membership_id in sorted(store.memberships_of_organization[loser.id]):
        old = store.memberships.rows[membership_id]
        user, default = store.users.rows[old.user_id], bool(old.default)
        if all(row.organization_id != winner.id for row in store.memberships_for(user.id)):
            memberships.add(state, user, winner, default)
    domains = [*winner.domain_names, *loser.domain_names]
    organizations.remove(state, loser)
    organizations.change(state, winner, {"domain_names": domains})


def merge_users(state: State, loser: User, winner: User) -> None:
    """Move tickets, identities and memberships, and delete the loser."""
    store = state.zendesk
    for ticket_id in sorted(store.tickets_of_user[loser.id]):
        ticket = store.tickets.rows[ticket_id]
        ticket.requester_id, ticket.generated_timestamp = winner.id, int(state.now)
        store.tickets.changed(ticket, state.now)
    store.tickets_of_user[winner.id] |= store.tickets_of_user.pop(loser.id, set())
    moved = [(row.type, row.value, row.verified) for row in store.identities_for(loser.id)]
    homes = [row.organization_id for row in store.memberships_for(loser.id)]
    people.remove(state, loser)
    held = {(row.type, row.value) for row in store.identities_for(winner.id)}
    for kind, value, verified in moved:
        if (kind, value) not in held:
            identities.add(state, winner, value, kind=kind, primary=False, verified=verified)
    mine = {row.organization_id for row in store.memberships_for(winner.id)}
    for organization_id in homes:
        if organization_id not in mine:
            memberships.add(state, winner, store.organizations.rows[organization_id])
    people.change(state, winner, {})


def _merge_organization(state: State, call: Call) -> Reply:
    values, store = call.json().get("organization_merge"), state.zendesk
    winner_id = values.get("winner_id") if isinstance(values, dict) else None
    loser, winner = store.organizations.get(call.params["id"]), store.organizations.get(winner_id or 0)
    if loser is None:
        raise not_found()
    if winner is None or winner is loser:
        raise Invalid("winner_id", "Winner: is invalid", "InvalidValue")
    merge = Merge(uuid.uuid4().hex, loser.id, winner.id, state.now, state.now + state.settings.job_delay)
    state.merges.add(merge)
    return reply_json({"organization_merge": merge.shown(state)})


def _show(state: State, call: Call) -> Reply:
    merge = state.merges.all.get(call.params["id"])
    if merge is None:
        raise not_found()
    return reply_json({"organization_merge": merge.shown(state)})


def _of_organization(state: State, call: Call) -> Reply:
    rows = [row.shown(state) for row in state.merges.all.values() if row.winner_id == call.params["id"]]
    return reply_json({"organization_merges": rows})


def _merge_user(state: State, call: Call) -> Reply:
    values, users = call.json().get("user"), state.zendesk.users
    if not isinstance(values, dict):
        raise bad_request("user is missing")
    loser, winner = users.get(call.params["id"]), users.get(values.get("id") or 0)
    if loser is None or not loser.active:
        raise not_found()
    if winner is None or winner is loser or not winner.active or {loser.role, winner.role} != {"end-user"}:
        raise Invalid("base", "Only two end users can be merged", "InvalidValue")
    merge_users(state, loser, winner)
    return Reply(200, b'{"user":' + users.encoded(winner.id) + b"}")


ROUTES = [
    ("POST", "/api/v2/organizations/{id:int}/merge", _merge_organization),
    ("GET", "/api/v2/organizations/{id:int}/merges", _of_organization),
    ("GET", "/api/v2/organization_merges/{id}", _show),
    ("PUT", "/api/v2/users/{id:int}/merge", _merge_user),
]
