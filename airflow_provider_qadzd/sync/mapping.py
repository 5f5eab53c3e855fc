"""From a QAD record to what Zendesk should have. Pure: nothing here reads or writes anything.

Organization and user are flat mappings of dotted field names, so that what is wanted and what is there compare field
by field. Fields that are written only at creation are named here once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.records import Contact, Customer, Wanted, digest
from airflow_provider_qadzd.sync.policies import Policies

MAPPING_VERSION = "1"
"""Part of every mapping digest: raise it when the same record and rules give another body."""

ORGANIZATION_FIELDS = {
    "qad_customer": "QAD customer",
    "qad_status": "QAD status",
    "qad_link": "QAD customer page",
    "qad_city": "QAD city",
    "qad_country": "QAD country",
}
"""Organization fields that onboarding makes, with their titles; the keys are ours, so nothing else lives in them."""

USER_FIELDS = {"qad_contact": "QAD contact", "qad_function": "QAD function"}
"""User fields that onboarding makes, with their titles."""

MAPPED: Mapping[str, tuple[str, ...]] = {
    "organization": ("name", "external_id", "tags", *(f"organization_fields.{name}" for name in ORGANIZATION_FIELDS)),
    "user": ("name", "external_id", "tags", *(f"user_fields.{name}" for name in USER_FIELDS)),
}
"""The fields that we compare and update, by kind."""

ONLY_AT_CREATION = ("email", "phone")
"""A primary email is writable only on create, and an update of the phone adds a second number."""

STATUS = "organization_fields.qad_status"
INACTIVE = "qad_inactive"
"""The tag on the organization of a customer that is inactive or gone, and on the user of a contact that is gone."""

OUR_TAGS = frozenset({INACTIVE})
"""Tags that are ours to add and take away; all others stay."""

_EMAIL = re.compile(r"[^@\s,;<>()\"]+@[^@\s,;<>()\"]+\.[^@\s.,;<>()\"]+")


@dataclass(frozen=True, slots=True)
class Rules:
    """What a flow's owner may choose. `organization` and `user` are templates of external ids.

    Organization template: `{code}`, `{shared_set}`, `{domain}`. User template: `{contact}`, `{shared_set}`, `{domain}`.
    `customer_page` is the address of a customer's page in QAD: `{code}`, `{shared_set}`, `{domain}`.
    """

    organization: str = "{code}"
    user: str = "{contact}"
    customer_page: str = ""
    policies: Policies = field(default_factory=Policies)

    @property
    def digest(self) -> str:
        """Changes when stored payloads must be mapped again."""
        chosen = [self.policies.customer_inactive, self.policies.contact_ended, self.policies.email_missing]
        return digest(MAPPING_VERSION, self.organization, self.user, self.customer_page, chosen)


def organization_of(customer: Customer, rules: Rules, ended: bool = False) -> Wanted:
    """The organization of a customer; `aside` says why there can be none. One that has `ended` is inactive."""
    active = customer.active and not ended
    name = " ".join(customer.name.split())
    external_id = _filled(
        rules.organization, code=customer.code, shared_set=customer.shared_set, domain=customer.domain
    )
    body: dict[str, Any] = {
        "name": name,
        "external_id": external_id,
        "organization_fields.qad_customer": customer.code,
        STATUS: "active" if active else "inactive",
        "organization_fields.qad_link": _page(customer, rules) or None,
        "organization_fields.qad_city": customer.city or None,
        "organization_fields.qad_country": customer.country or None,
        "tags": [] if active else [INACTIVE],
    }
    if rules.policies.customer_inactive == "ignore":
        del body[STATUS], body["tags"]
    return Wanted("organization", customer.code, external_id, body, name, aside="" if name else "no_name", ended=ended)


def user_of(contact: Contact, rules: Rules, ended: bool = False) -> Wanted:
    """The user of a contact; a contact without a usable email becomes a user without email.

    One that has `ended` in QAD keeps its user, with a tag.
    """
    name = " ".join(contact.name.split())
    email = contact.email.strip() if _EMAIL.fullmatch(contact.email.strip()) else ""
    external_id = _filled(
        rules.user, contact=contact.key, shared_set=contact.shared_set, domain=contact.domain
    )  # fmt: skip
    body: dict[str, Any] = {
        "name": name,
        "external_id": external_id,
        "user_fields.qad_contact": contact.key,
        "user_fields.qad_function": contact.function or None,
        "email": email or None,
        "phone": contact.phone or None,
        "tags": [INACTIVE] if ended else [],
    }
    if rules.policies.contact_ended == "ignore":
        del body["tags"]
    aside = "" if name else "no_name"
    if not email and rules.policies.email_missing == "set_aside":
        aside = aside or "no_email"
    return Wanted("user", contact.key, external_id, body, name, email, 0 if contact.primary else 1, aside, ended)


def with_our_tags(there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The tags that are there, with ours as they are wanted; others stay, in their order."""
    kept = [tag for tag in there if tag not in OUR_TAGS or tag in wanted]
    return [*kept, *(tag for tag in wanted if tag not in kept)]


def suffixed(name: str, code: str) -> str:
    """The name of an organization whose plain name another one holds."""
    return f"{name} ({code})"


def _filled(template: str, **parts: str) -> str:
    """`template` with its parts; `,` and `%` are percent-encoded because Zendesk takes lists of ids by comma."""
    try:
        return template.format(**{name: part.replace("%", "%25").replace(",", "%2C") for name, part in parts.items()})
    except (KeyError, IndexError, ValueError):
        raise FixFirst(
            f"The key template {template!r} cannot be filled.", advice=f"It may use {', '.join(sorted(parts))}."
        ) from None


def _page(customer: Customer, rules: Rules) -> str:
    return rules.customer_page and _filled(
        rules.customer_page, code=customer.code, shared_set=customer.shared_set, domain=customer.domain
    )
