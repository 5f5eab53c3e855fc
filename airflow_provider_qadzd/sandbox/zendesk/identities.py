"""The addresses of a person. An email belongs to one active user only, whichever of their addresses it is.

https://developer.zendesk.com/api-reference/ticketing/users/user_identities/
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..clock import iso
from ..web import Call, Reply, reply_json
from .errors import Invalid, bad_request, not_found
from .models import Identity, User
from .paging import chosen
from .store import fold

if TYPE_CHECKING:
    from ..state import State

EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>]+")


def check_email(state: State, email: str, user_id: int | None, field: str) -> None:
    """Refuse an email that is malformed or belongs to somebody else."""
    label = "Value" if field == "value" else "Email"
    if not EMAIL.fullmatch(email.strip()):
        raise Invalid(field, f"{label}:  {email} is not properly formatted", "InvalidFormat")
    holder = state.zendesk.user_with_email(email)
    if holder is not None and holder.id != user_id:
        text = f"{label}: {email.strip()} is already being used by another user"
        raise Invalid(field, text, "DuplicateValue")


def add(state: State, user: User, value: str, *, kind: str = "email", primary: bool, verified: bool) -> Identity:
    """Give a user one more address. The caller has checked that it is free."""
    store = state.zendesk
    new_id, stamp = store.new_id("identities"), iso(state.now)
    value = value.strip().lower() if kind == "email" else value.strip()
    url = f"{store.base_url}/api/v2/users/{user.id}/identities/{new_id}.json"
    row = Identity(new_id, url, user.id, kind, value, verified, False, stamp, stamp)
    if verified:
        row.verification_method, row.verified_at = "low", stamp
    store.identities.add(row, state.now)
    store.identities_of[user.id].append(new_id)
    if kind == "email":
        store.identity_by_email[fold(value)] = new_id
    if primary:
        make_primary(state, user, row)
    return row


def make_primary(state: State, user: User, row: Identity) -> None:
    """Make this the address that the user shows."""
    store = state.zendesk
    for other in store.identities_for(user.id):
        if other.type == row.type and other.primary != (other.id == row.id):
            other.primary = other.id == row.id
            store.identities.changed(other, state.now)
    if row.type == "email":
        user.email, user.verified = row.value, row.verified


def mail(state: State, verified: bool, values: dict[str, Any]) -> None:
    """Count the verification mail that Zendesk would send, unless it is told not to."""
    if not verified and not values.get("skip_verify_email"):
        state.stats.verification_mails += 1


def drop(state: State, row: Identity) -> None:
    """Take an address away; it is free for others at once."""
    store = state.zendesk
    store.identities.remove(row.id)
    store.identities_of[row.user_id].remove(row.id)
    if store.identity_by_email.get(fold(row.value)) == row.id:
        del store.identity_by_email[fold(row.value)]


def _touch(state: State, user: User) -> None:
    user.updated_at = iso(state.now)
    state.zendesk.users.changed(user, state.now)


def _user(state: State, call: Call) -> User:
    user = state.zendesk.users.get(call.params["user_id"])
    if user is None or not user.active:
        raise not_found()
    return user


def _row(state: State, call: Call) -> tuple[User, Identity]:
    user = _user(state, call)
    row = state.zendesk.identities.get(call.params["id"])
    if row is None or row.user_id != user.id:
        raise not_found()
    return user, row


def _values(call: Call) -> dict[str, Any]:
    values = call.json().get("identity")
    if not isinstance(values, dict):
        raise bad_request("identity is missing")
    return values


def _all(state: State, call: Call, user: User) -> Reply:
    return chosen(call, "identities", state.zendesk.identities, state.zendesk.identities_of[user.id])


def _list(state: State, call: Call) -> Reply:
    return _all(state, call, _user(state, call))


def _show(state: State, call: Call) -> Reply:
    return reply_json({"identity": _row(state, call)[1]})


def _create(state: State, call: Call) -> Reply:
    user, values = _user(state, call), _values(call)
    kind, value = str(values.get("type") or "email"), str(values.get("value") or "")
    if kind == "email":
        check_email(state, value, None, "value")
    verified = bool(values.get("verified"))
    first = not any(row.type == kind for row in state.zendesk.identities_for(user.id))
    row = add(state, user, value, kind=kind, primary=first or bool(values.get("primary")), verified=verified)
    if kind == "email":
        mail(state, verified, values)
    _touch(state, user)
    return reply_json({"identity": row}, 201)


def _update(state: State, call: Call) -> Reply:
    store = state.zendesk
    (user, row), values = _row(state, call), _values(call)
    if "value" in values and fold(str(values["value"])) != fold(row.value):
        if row.type == "email":
            check_email(state, str(values["value"]), user.id, "value")
            store.identity_by_email.pop(fold(row.value), None)
        row.value = str(values["value"]).strip().lower()
        store.identity_by_email[fold(row.value)] = row.id
    if "verified" in values:
        _verify(state, row, bool(values["verified"]))
    row.updated_at = iso(state.now)
    store.identities.changed(row, state.now)
    if row.primary and row.type == "email":
        user.email, user.verified = row.value, row.verified
    _touch(state, user)
    return reply_json({"identity": row})


def _verify(state: State, row: Identity, verified: bool) -> None:
    row.verified = verified
    row.verified_at = iso(state.now) if verified else None
    row.verification_method = "low" if verified else "none"


def _make_primary(state: State, call: Call) -> Reply:
    user, row = _row(state, call)
    make_primary(state, user, row)
    _touch(state, user)
    return reply_json({"identities": state.zendesk.identities_for(user.id)})


def _verify_one(state: State, call: Call) -> Reply:
    user, row = _row(state, call)
    _verify(state, row, True)
    state.zendesk.identities.changed(row, state.now)
    if row.primary:
        user.verified = True
    _touch(state, user)
    return reply_json({"identity": row})


def _request_verification(state: State, call: Call) -> Reply:
    _row(state, call)
    state.stats.verification_mails += 1
    return reply_json("")


def _delete(state: State, call: Call) -> Reply:
    user, row = _row(state, call)
    if row.primary:
        raise Invalid("base", "The primary identity cannot be deleted", "InvalidValue")
    drop(state, row)
    _touch(state, user)
    return Reply(204)


ROUTES = [
    ("GET", "/api/v2/users/{user_id:int}/identities", _list),
    ("POST", "/api/v2/users/{user_id:int}/identities", _create),
    ("GET", "/api/v2/users/{user_id:int}/identities/{id:int}", _show),
    ("PUT", "/api/v2/users/{user_id:int}/identities/{id:int}", _update),
    ("DELETE", "/api/v2/users/{user_id:int}/identities/{id:int}", _delete),
    ("PUT", "/api/v2/users/{user_id:int}/identities/{id:int}/make_primary", _make_primary),
    ("PUT", "/api/v2/users/{user_id:int}/identities/{id:int}/verify", _verify_one),
    ("PUT", "/api/v2/users/{user_id:int}/identities/{id:int}/request_verification", _request_verification),
]
