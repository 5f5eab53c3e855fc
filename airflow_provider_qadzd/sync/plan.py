"""What to do about one record, decided purely from what is wanted, remembered and there.

`decide` walks the situations of a record in order, each in words above its branch, and yields either a change to make
in Zendesk or a settled outcome that needs no call. It is asked when a plan is drafted and asked again, with what
Zendesk has at that moment, just before anything is sent: one rule, two moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from airflow_provider_qadzd.errors import UnsafePlan
from airflow_provider_qadzd.records import Candidate, Flat, Held
from airflow_provider_qadzd.sync.mapping import INACTIVE, STATUS, suffixed
from airflow_provider_qadzd.sync.ownership import is_blank, ours, to_change
from airflow_provider_qadzd.sync.policies import Policies

Operation = Literal["create", "update", "add"]
Braked = Literal["updates", "deactivations", "removals"]
STAFF = ("agent", "admin")
ERASED = "erased"
"""What the mirror says in place of a role of a user whom Zendesk has deleted for good."""
ERASED_USER = "user_erased_in_zendesk"


@dataclass(frozen=True, slots=True)
class Change:
    """A write to make. `difference` is field -> (before, after); `body` holds what is sent.

    `remember` are the entries of merged lists that are ours once it is made.
    """

    operation: Operation
    outcome: str
    zendesk_id: int | None
    base: str
    body: Flat
    difference: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    remember: Flat = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """An outcome that needs no call. `zendesk_id` is set where the key and a record belong together."""

    outcome: str
    detail: str = ""
    zendesk_id: int | None = None
    base: str = ""
    remember: Flat = field(default_factory=dict)


Decision = Change | Settled


DEFAULTS = Policies()


def decide(candidate: Candidate, policies: Policies = DEFAULTS) -> Decision:
    """The one decision about this organization or user."""
    c = candidate
    # Its own data cannot be synced: no name, or two different persons under one key.
    if c.aside:
        return Settled("set_aside", c.aside)
    # Zendesk compares external ids without regard to case: a linked twin keeps its place, two newcomers both wait.
    if c.twin is not None and c.link_id is None:
        return Settled("set_aside", f"case_twin of {c.twin}")
    if c.link_id is not None:
        return _of_linked(c, policies)
    # QAD has it no more, and Zendesk never had it: there is nothing to make.
    if c.ended and c.by_external is None:
        return Settled("set_aside", "ended_in_qad")
    # Zendesk already has our external id: the link was lost, or a write's answer was.
    if c.by_external is not None:
        return _of_holder(c, c.by_external, "external_id", policies)
    return _new_organization(c, policies) if c.kind == "organization" else _new_user(c, policies)


def _of_linked(c: Candidate, policies: Policies) -> Decision:
    # It is linked, and Zendesk does not have it any more.
    if c.current is None or not c.current.active:
        return _of_deleted(c, policies)
    # It is linked to somebody who has become staff.
    if c.current.role in STAFF:
        return Settled("set_aside", f"is_{c.current.role}")
    return _update(c, c.current, _name_for_linked(c, c.current), "updated", policies)


def _of_deleted(c: Candidate, policies: Policies) -> Decision:
    # QAD has it no more either.
    if c.ended:
        return Settled("set_aside", "ended_in_qad")
    if c.kind == "organization":
        if policies.organization_deleted == "set_aside":
            return Settled("set_aside", "organization_deleted_in_zendesk")
        return _named(c, _name_for_new(c), policies) or _creation(c, _name_for_new(c), "recreated")
    # Erased for good, as the law may ask: never made again.
    if c.current is not None and c.current.role == ERASED:
        return Settled("set_aside", ERASED_USER)
    # It may be the first half of an erasure.
    if policies.user_deleted == "set_aside":
        return Settled("set_aside", "user_deleted_in_zendesk")
    # Made again as a new one would be: whoever has the email meanwhile decides.
    again = _new_user(replace(c, link_id=None, current=None), policies)
    return replace(again, outcome="recreated") if isinstance(again, Change) and again.operation == "create" else again


def _new_organization(c: Candidate, policies: Policies) -> Decision:
    holder = c.by_name
    # Nobody has the name, or this key is not the first that wants it.
    if holder is None or c.name_first != c.key or holder.linked_to is not None or holder.external_folded:
        return _named(c, _name_for_new(c), policies) or _creation(c, _name_for_new(c), "created")
    # An organization that nobody keyed has exactly this name: it is this customer's, unless the owner says otherwise.
    if policies.name_unkeyed == "set_aside":
        return Settled("set_aside", f"name_of {holder.zendesk_id}")
    if policies.name_unkeyed == "suffix":
        return _creation(c, suffixed(str(c.body["name"]), c.key), "created")
    return _of_holder(c, holder, "name", policies)


def _named(c: Candidate, name: str, policies: Policies) -> Settled | None:
    """Set aside, where the plain name cannot be had and the owner wants no suffix."""
    if policies.name_linked == "suffix" or name == str(c.body["name"]):
        return None
    holder = None if c.by_name is None else c.by_name.linked_to or c.by_name.zendesk_id
    return Settled("set_aside", f"name_held_by {holder or c.name_first}")


def _new_user(c: Candidate, policies: Policies) -> Decision:
    # A colleague reads this mailbox: nobody who shares it gets it.
    if c.by_email is not None and c.by_email.role in STAFF:
        return _of_holder(c, c.by_email, "email", policies)
    # Several contacts share this mailbox: one user, that of the first of them; membership in each organization.
    if c.email_folded and c.email_first != c.key:
        if policies.email_shared == "without_email":
            return _creation(replace(c, body={**c.body, "email": None}), str(c.body["name"]), "created")
        return Settled("shared_with", c.email_first)
    if c.by_email is not None:
        return _of_holder(c, c.by_email, "email", policies)
    return _creation(c, str(c.body["name"]), "created")


def _of_holder(c: Candidate, holder: Held, found_by: str, policies: Policies) -> Decision:
    # The holder is staff: never touched.
    if holder.role in STAFF:
        return Settled("set_aside", f"{found_by}_of_{holder.role} {holder.zendesk_id}")
    # The holder belongs to another key of ours, or somebody else keyed it.
    if holder.linked_to not in (None, c.key):
        return Settled("set_aside", f"{found_by}_held_by {holder.linked_to}")
    if found_by != "external_id" and holder.external_folded:
        return Settled("set_aside", f"{found_by}_held_by external id of {holder.zendesk_id}")
    # The owner wants nobody adopted by email.
    if found_by == "email" and policies.email_unkeyed == "set_aside":
        return Settled("set_aside", f"email_of {holder.zendesk_id}")
    return _update(c, holder, _name_for_linked(c, holder), "adopted", policies)


def _update(c: Candidate, held: Held, name: str, outcome: str, policies: Policies) -> Decision:
    # A linked organization is to take a name that another one has.
    if c.kind == "organization" and name != held.fields.get("name") and (aside := _named(c, name, policies)):
        return aside
    wanted = {**c.body, "name": name}
    difference = to_change(wanted, held.fields, c.remembered, c.owners)
    remember = ours(wanted, held.fields, c.remembered, c.owners)
    if outcome == "updated" and _deactivates(difference):
        outcome = "deactivated"
    if not difference:
        return Settled("adopted" if outcome == "adopted" else "unchanged", "", held.zendesk_id, held.digest, remember)
    body = {key: after for key, (_, after) in difference.items()}
    return Change("update", outcome, held.zendesk_id, held.digest, body, difference, remember)


def _creation(c: Candidate, name: str, outcome: str) -> Change:
    body = {key: value for key, value in {**c.body, "name": name}.items() if not is_blank(value)}
    remember = ours(body, dict.fromkeys(body), {}, c.owners)
    return Change("create", outcome, None, "", body, {key: (None, value) for key, value in body.items()}, remember)


def _name_for_new(c: Candidate) -> str:
    plain = str(c.body["name"])
    if c.kind != "organization":
        return plain
    free = c.by_name is None or c.by_name.zendesk_id == c.link_id or not c.by_name.active
    return plain if free and c.name_first == c.key else suffixed(plain, c.key)


def _name_for_linked(c: Candidate, held: Held) -> str:
    """A linked organization keeps the plain name while it holds it; it takes it only if it is free and its turn."""
    plain = str(c.body["name"])
    if c.kind != "organization" or (c.by_name is not None and c.by_name.zendesk_id == held.zendesk_id):
        return plain
    return plain if c.by_name is None and c.name_first == c.key else suffixed(plain, c.key)


def _deactivates(difference: Mapping[str, tuple[Any, Any]]) -> bool:
    """Whether this says of a record that it is over in QAD, which was not said before."""
    if difference.get(STATUS, ("", ""))[1] == "inactive":
        return True
    before, after = difference.get("tags", ([], []))
    return INACTIVE in after and INACTIVE not in (before or [])


@dataclass(frozen=True, slots=True)
class Brake:
    """How much of what is linked one plan may update, deactivate and remove.

    Shares are 0 to 1; up to a floor's count always goes. Removals are memberships, of those that we added.
    """

    share: float = 0.3
    floor: int = 50
    deactivations_share: float = 0.1
    deactivations_floor: int = 20
    removals_share: float = 0.1
    removals_floor: int = 20

    @classmethod
    def released(cls) -> Brake:
        """No brake at all, for one run."""
        return cls(1.0, 0, 1.0, 0, 1.0, 0)

    def allowed(self, what: Braked, linked: int) -> int:
        """How many of `linked` may be updated, deactivated or removed."""
        share, floor = {
            "updates": (self.share, self.floor),
            "deactivations": (self.deactivations_share, self.deactivations_floor),
            "removals": (self.removals_share, self.removals_floor),
        }[what]
        return max(floor, int(share * linked))

    def check(self, what: Braked, count: int, linked: int) -> None:
        """UnsafePlan if `count` of `linked` is more than the share and more than the floor."""
        allowed = self.allowed(what, linked)
        if count > allowed:
            of = "memberships that we added" if what == "removals" else "linked records"
            raise UnsafePlan(
                f"The plan has {count} {what} of {linked} {of}; the brake allows {allowed}. Nothing is sent.",
                advice="Look at the plan. If it is right, run once with the parameter release_brake set to true.",
            )
