"""What may happen to a user: made, changed, matched, deleted.

https://developer.zendesk.com/api-reference/ticketing/users/users/
An email written on an update becomes a secondary, unverified identity; the primary stays. Writing
`organization_id` removes every other membership.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..clock import iso
from . import identities, memberships
from .errors import Invalid
from .models import Organization, User
from .store import Store, fold

if TYPE_CHECKING:
    from ..state import State

PLAIN = [
    "phone",
    "alias",
    "details",
    "notes",
    "signature",
    "suspended",
    "custom_role_id",
    "moderator",
    "ticket_restriction",
    "only_private_comments",
    "default_group_id",
    "shared_phone_number",
    "locale_id",
    "time_zone",
]
ROLES = ("end-user", "agent", "admin")


def create(state: State, values: dict[str, Any]) -> User:
    """Add a user; refused when an email or the external id is taken."""
    store = state.zendesk
    name = str(values.get("name") or "").strip()
    if not name:
        raise Invalid("name", "Name: is too short (minimum one characters)", "ValueTooShort")
    emails = _emails(values)
    for email in emails:
        identities.check_email(state, email, None, "email")
    _check(store, None, values)
    home = _home(state, values)
    new_id, stamp = store.new_id("users"), iso(state.now)
    row = User(new_id, store.url("users", new_id), name, stamp, stamp)
    _write(store, row, {**values, "name": name})
    store.users.add(row, state.now)
    verified = bool(values.get("verified"))
    for index, email in enumerate(emails):
        identities.add(state, row, email, primary=index == 0, verified=verified and index == 0)
    if emails:
        identities.mail(state, verified, values)
    for organization in home:
        memberships.add(state, row, organization)
    store.users.changed(row, state.now)
    return row


def change(state: State, row: User, values: dict[str, Any]) -> User:
    """Change the given fields."""
    store = state.zendesk
    if "name" in values and not str(values["name"] or "").strip():
        raise Invalid("name", "Name: is too short (minimum one characters)", "ValueTooShort")
    email = str(values.get("email") or "")
    if email:
        identities.check_email(state, email, row.id, "email")
    _check(store, row.id, values)
    home = _home(state, values)
    _write(store, row, values)
    if email and store.user_with_email(email) is None:
        first = row.email is None
        verified = first and bool(values.get("verified"))
        identities.add(state, row, email, primary=first, verified=verified)
        identities.mail(state, verified, values)
    if home or ("organization_id" in values and values["organization_id"] is None):
        memberships.replace_all(state, row, home[0] if home else None)
    row.updated_at = iso(state.now)
    store.users.changed(row, state.now)
    return row


def matched(state: State, values: dict[str, Any]) -> User | None:
    """Whom `create_or_update` means: the holder of the external id, else of the email."""
    if values.get("external_id"):
        found = state.zendesk.user_keyed(str(values["external_id"]))
        if found is not None:
            return found
    return state.zendesk.user_with_email(str(values["email"])) if values.get("email") else None


def remove(state: State, row: User) -> None:
    """Delete softly: the row stays with `active` false; emails and external id are free again."""
    store = state.zendesk
    for identity in store.identities_for(row.id):
        identities.drop(state, identity)
    for membership in store.memberships_for(row.id):
        memberships.remove(state, membership)
    if row.external_id and store.user_by_external_id.get(fold(row.external_id)) == row.id:
        del store.user_by_external_id[fold(row.external_id)]
    row.active, row.updated_at = False, iso(state.now)
    store.users.changed(row, state.now)


def _emails(values: dict[str, Any]) -> list[str]:
    given = [values.get("email")]
    for identity in values.get("identities") or []:
        if isinstance(identity, dict) and identity.get("type") == "email":
            given.append(identity.get("value"))
    return list({fold(str(email)): str(email) for email in given if email}.values())


def _home(state: State, values: dict[str, Any]) -> list[Organization]:
    store = state.zendesk
    ids = [values.get("organization_id"), *(values.get("organization_ids") or [])]
    named = values.get("organization")
    if isinstance(named, dict) and named.get("name"):
        found = store.organization_named(str(named["name"]))
        ids.append(None if found is None else found.id)
    if not any(ids) and values.get("verified") and "@" in str(values.get("email") or ""):
        ids.append(store.organization_by_domain.get(fold(str(values["email"])).rpartition("@")[2]))
    rows = []
    for key in dict.fromkeys(key for key in ids if key):
        row = store.organizations.get(int(key))
        if row is None:
            raise Invalid("organization_id", "Organization: is invalid", "InvalidValue")
        rows.append(row)
    return rows


def _check(store: Store, own_id: int | None, values: dict[str, Any]) -> None:
    external_id = values.get("external_id")
    if external_id and store.user_by_external_id.get(fold(str(external_id)), own_id) != own_id:
        raise Invalid("external_id", "External has already been taken", "DuplicateValue")
    if values.get("role", "end-user") not in ROLES:
        raise Invalid("role", f"Role: {values['role']} is invalid", "InvalidValue")


def _write(store: Store, row: User, values: dict[str, Any]) -> None:
    for key in PLAIN:
        if key in values:
            setattr(row, key, values[key])
    if "name" in values:
        row.name = str(values["name"]).strip()
    if "role" in values:
        row.role = values["role"]
        row.restricted_agent = row.role != "admin"
    if "external_id" in values:
        if row.external_id:
            store.user_by_external_id.pop(fold(row.external_id), None)
        row.external_id = None if values["external_id"] in (None, "") else str(values["external_id"])
        if row.external_id:
            store.user_by_external_id[fold(row.external_id)] = row.id
    if "tags" in values:
        row.tags = sorted({str(tag).strip().lower() for tag in values["tags"] or []})
    known = {field["key"] for field in store.user_fields.values()}
    given = values.get("user_fields") or {}
    row.user_fields = {
        **dict.fromkeys(sorted(known)),
        **row.user_fields,
        **{key: value for key, value in given.items() if key in known},
    }
