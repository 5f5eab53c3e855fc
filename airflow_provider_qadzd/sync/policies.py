"""What the owner of a flow may choose where QAD and Zendesk collide: one frozen value, handed to the pure decisions.

Every setting has a short list of allowed values, the first of which is the default. None of them lets an agent or an
admin be written, and none lets anything be deleted but memberships that we added ourselves.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

from airflow_provider_qadzd.errors import FixFirst


@dataclass(frozen=True, slots=True)
class Policies:
    """The collision table's settings.

    `name_unkeyed`: an organization that nobody keyed has exactly the name. `name_linked`: another linked organization,
    or one that somebody else keyed, has it. `email_unkeyed`: an end user whom nobody keyed has the email.
    `email_shared`: several contacts have one email. `email_missing`: a contact has none that can be used.
    `email_changed`: a linked contact has another one now. `contact_moved`: a contact left a customer for another.
    `contact_ended`: QAD has the contact no more. `customer_inactive`: QAD says so, or has the customer no more.
    `organization_deleted`, `user_deleted`: by hand, in Zendesk.
    """

    name_unkeyed: Literal["adopt", "set_aside", "suffix"] = "adopt"
    name_linked: Literal["suffix", "set_aside"] = "suffix"
    email_unkeyed: Literal["adopt", "set_aside"] = "adopt"
    email_shared: Literal["share", "without_email"] = "share"
    email_missing: Literal["create", "set_aside"] = "create"
    email_changed: Literal["add", "make_primary"] = "add"
    contact_moved: Literal["remove", "keep"] = "remove"
    contact_ended: Literal["tag", "ignore"] = "tag"
    customer_inactive: Literal["tag", "ignore"] = "tag"
    organization_deleted: Literal["recreate", "set_aside"] = "recreate"
    user_deleted: Literal["set_aside", "recreate"] = "set_aside"


ALLOWED: Mapping[str, tuple[str, ...]] = {name: get_args(hint) for name, hint in get_type_hints(Policies).items()}
"""The values that each setting may have, the default first."""


def policies_from(given: Mapping[str, str], where: str = "[qadzd]") -> Policies:
    """These settings, the others by default. FixFirst, listing what is allowed, for a value that is not."""
    for name, value in given.items():
        if value not in ALLOWED[name]:
            near = difflib.get_close_matches(value, ALLOWED[name], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise FixFirst(f"{where} {name} is {value!r}.", advice=f"Allowed: {', '.join(ALLOWED[name])}.{hint}")
    known = {field.name for field in fields(Policies)}
    return Policies(**{name: value for name, value in given.items() if name in known})  # type: ignore[arg-type]
