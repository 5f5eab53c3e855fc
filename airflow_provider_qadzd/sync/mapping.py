"""From a QAD record to what Zendesk should have. Pure: nothing here reads or writes anything.

Organization and user are flat mappings of dotted field names, so that what is wanted and what is there compare field
by field. Which field is made from what, and whose it is, says a `FieldMapping`: the default below, or a file's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.records import Contact, Customer, Kind, Wanted, digest, fold
from airflow_provider_qadzd.sync.ownership import ONLY_AT_CREATION, owner_of
from airflow_provider_qadzd.sync.policies import Policies
from airflow_provider_qadzd.sync.template import Scalar, Template, Unread, as_text, parsed

MAPPING_VERSION = "1"
"""Part of every mapping digest: raise it when the same record and rules give another body."""

ORGANIZATION_FIELDS = {
    "qad_customer": "QAD customer",
    "qad_status": "QAD status",
    "qad_link": "QAD customer page",
    "qad_orders": "QAD orders",
    "qad_billing": "QAD billing",
    "qad_city": "QAD city",
    "qad_country": "QAD country",
}
"""Organization fields that onboarding makes, with their titles; the keys are ours, so nothing else lives in them."""

USER_FIELDS = {"qad_contact": "QAD contact", "qad_function": "QAD function"}
"""User fields that onboarding makes, with their titles."""

QAD_FIELDS: Mapping[str, tuple[str, ...]] = {
    "organization": (
        "code", "name", "status", "active", "shared_set", "domain", "business_relation", "street", "city", "postcode",
        "country", "email", "phone", "modified", "page", "orders", "billing",
    ),
    "user": (
        "contact", "name", "email", "phone", "function", "primary", "business_relation", "address_type", "shared_set",
        "domain", "modified",
    ),
}  # fmt: skip
"""What a template may name of a customer and of a contact, besides the columns of their browses."""

ZENDESK_FIELDS: Mapping[str, tuple[str, ...]] = {
    "organization": ("name", "details", "notes", "tags", "domain_names", "group_id", "shared_tickets",
                     "shared_comments"),
    "user": ("name", "email", "phone", "alias", "details", "notes", "tags", "time_zone"),
}  # fmt: skip
"""The standard fields that may be mapped; custom ones are `organization_fields.KEY` and `user_fields.KEY`."""

LISTS = ("tags", "domain_names")
"""Standard fields that are always lists."""

_KEYS = frozenset(
    {"code", "contact", "shared_set", "domain", "status", "active", "primary", "page", "orders", "billing"}
)
"""QAD fields in which no value is junk."""

STATUS = "organization_fields.qad_status"
INACTIVE = "qad_inactive"
"""The tag on the organization of a customer that is inactive or gone, and on the user of a contact that is gone."""

_EMAIL = re.compile(r"[^@\s,;<>()\"]+@[^@\s,;<>()\"]+\.[^@\s.,;<>()\"]+")


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One Zendesk field: what it is made from (of a `many`, each template is an entry), and whose it is."""

    field: str
    templates: tuple[Template, ...]
    many: bool = False
    owner: str = "qad"


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """Which Zendesk field is made from which QAD fields. `ignored` and `address_types` are folded.

    `ignored` values count as blank. Where there are `address_types`, only their contacts are synced. `named_in` tells
    where a browse column is named, for errors.
    """

    organization: tuple[FieldRule, ...]
    user: tuple[FieldRule, ...]
    ignored: frozenset[str] = frozenset()
    address_types: frozenset[str] = frozenset()
    named_in: tuple[tuple[str, str], ...] = ()

    def rules(self, kind: Kind) -> tuple[FieldRule, ...]:
        """The rules of organizations or of users."""
        return self.organization if kind == "organization" else self.user

    def compared(self, kind: Kind) -> tuple[str, ...]:
        """The fields that are compared and updated: all but those that are Zendesk's once they are written."""
        return ("external_id", *(rule.field for rule in self.rules(kind) if rule.owner != "zendesk"))

    def owners(self, kind: Kind) -> dict[str, str]:
        """Whose the fields are that do not belong to whom they usually do."""
        return {rule.field: rule.owner for rule in self.rules(kind) if rule.owner != owner_of(rule.field, {})}

    def custom_fields(self, kind: Kind) -> list[str]:
        """The keys of the custom fields that are written."""
        start = f"{kind}_fields."
        return [rule.field.removeprefix(start) for rule in self.rules(kind) if rule.field.startswith(start)]

    def columns(self, kind: Kind) -> dict[str, str]:
        """The browse columns that templates name, with the place where each is named."""
        places = dict(self.named_in)
        named = (name for rule in self.rules(kind) for template in rule.templates for name in template.names)
        return {name: places.get(name, "the default mapping") for name in named if "." in name}

    @property
    def digest(self) -> str:
        """Changes with what the mapping makes, and not with how it is written down."""
        told = [
            [rule.field, rule.owner, rule.many, [template.text for template in rule.templates]]
            for rule in (*self.organization, *self.user)
        ]
        return digest(told, sorted(self.ignored), sorted(self.address_types))


def _default(kind: Kind, templates: Mapping[str, str]) -> tuple[FieldRule, ...]:
    rules = (
        FieldRule(field, (parsed(text, QAD_FIELDS[kind]),), owner="zendesk" if field in ONLY_AT_CREATION else "qad")
        for field, text in templates.items()
    )
    # No tags of its own, but the place of the one that tells what is inactive.
    return (*rules, FieldRule("tags", (), many=True, owner="merge"))


DEFAULT = FieldMapping(
    _default(
        "organization",
        {
            "name": "{name|squeeze}",
            "organization_fields.qad_customer": "{code}",
            "organization_fields.qad_status": "{status}",
            "organization_fields.qad_link": "{page}",
            "organization_fields.qad_orders": "{orders}",
            "organization_fields.qad_billing": "{billing}",
            "organization_fields.qad_city": "{city}",
            "organization_fields.qad_country": "{country}",
        },
    ),
    _default(
        "user",
        {
            "name": "{name|squeeze}",
            "user_fields.qad_contact": "{contact}",
            "user_fields.qad_function": "{function}",
            "email": "{email}",
            "phone": "{phone}",
        },
    ),
    ignored=frozenset({".", "-", "n/a", "vacio"}),
)
"""The mapping without a file. A file changes the fields that it names; the others stay as they are here."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a flow's owner may choose. `organization` and `user` are templates of external ids.

    Organization template: `{code}`, `{shared_set}`, `{domain}`. User template: `{contact}`, `{shared_set}`, `{domain}`.
    `customer_page`, `orders_page` and `billing_page` are the addresses of a customer's pages in QAD: `{code}`,
    `{shared_set}`, `{domain}`. Orders and invoices themselves stay there: a link is all that Zendesk gets of them.
    """

    organization: str = "{code}"
    user: str = "{contact}"
    customer_page: str = ""
    mapping: FieldMapping = DEFAULT
    policies: Policies = field(default_factory=Policies)
    orders_page: str = ""
    billing_page: str = ""

    @property
    def digest(self) -> str:
        """Changes when stored payloads must be mapped again."""
        chosen = [self.policies.customer_inactive, self.policies.contact_ended, self.policies.email_missing]
        return digest(
            MAPPING_VERSION, self.organization, self.user, self.customer_page, self.mapping.digest, chosen,
            self.orders_page, self.billing_page,
        )  # fmt: skip


def organization_of(customer: Customer, rules: Rules, ended: bool = False) -> Wanted:
    """The organization of a customer; `aside` says why there can be none. One that has `ended` in QAD is inactive."""
    active = customer.active and not ended
    scope = {"shared_set": customer.shared_set, "domain": customer.domain}
    external_id = _filled(rules.organization, code=customer.code, **scope)
    values: dict[str, Scalar] = {
        **customer.columns, **scope, "code": customer.code, "name": customer.name, "active": active,
        "status": "active" if active else "inactive", "business_relation": customer.business_relation,
        "street": customer.street, "city": customer.city, "postcode": customer.postcode, "country": customer.country,
        "email": customer.email, "phone": customer.phone, "modified": customer.modified,
        "page": _page(rules.customer_page, customer), "orders": _page(rules.orders_page, customer),
        "billing": _page(rules.billing_page, customer),
    }  # fmt: skip
    body = {"external_id": external_id, **_body("organization", values, rules.mapping)}
    if rules.policies.customer_inactive == "ignore":
        body.pop(STATUS, None)
    elif not active and "tags" in body:
        body["tags"] = [*body["tags"], INACTIVE]
    name = as_text(body.get("name"))
    owners, aside = rules.mapping.owners("organization"), "" if name else "no_name"
    return Wanted("organization", customer.key, external_id, body, name, aside=aside, ended=ended, owners=owners)


def user_of(contact: Contact, rules: Rules, ended: bool = False) -> Wanted:
    """The user of a contact; a contact without a usable email becomes a user without email.

    One that has `ended` in QAD keeps its user, with a tag.
    """
    scope = {"shared_set": contact.shared_set, "domain": contact.domain}
    external_id = _filled(rules.user, contact=contact.key, **scope)
    values: dict[str, Scalar] = {
        **contact.columns, **scope, "contact": contact.key, "name": contact.name, "email": contact.email,
        "phone": contact.phone, "function": contact.function, "primary": contact.primary,
        "business_relation": contact.business_relation, "address_type": contact.address_type,
        "modified": contact.modified,
    }  # fmt: skip
    body = {"external_id": external_id, **_body("user", values, rules.mapping)}
    name, email = as_text(body.get("name")), as_text(body.get("email")).strip()
    if "email" in body:
        email = email if _EMAIL.fullmatch(email) else ""
        body["email"] = email or None
    if ended and rules.policies.contact_ended == "tag" and "tags" in body:
        body["tags"] = [*body["tags"], INACTIVE]
    types = rules.mapping.address_types
    if types and fold(contact.address_type) not in types:
        aside = "address_type_not_mapped"
    elif not name:
        aside = "no_name"
    else:
        unreachable = "email" in body and not email and rules.policies.email_missing == "set_aside"
        aside = "no_email" if unreachable else ""
    rank, owners = 0 if contact.primary else 1, rules.mapping.owners("user")
    return Wanted("user", contact.key, external_id, body, name, email, rank, aside, owners, ended)


def suffixed(name: str, code: str) -> str:
    """The name of an organization whose plain name another one holds."""
    return f"{name} ({code})"


def _body(kind: Kind, values: Mapping[str, Scalar], mapping: FieldMapping) -> dict[str, Any]:
    """The mapped fields. One whose value was not read, or not understood, is left out: it stays as it is in Zendesk."""
    kept = {name: None if _is_junk(name, value, mapping) else value for name, value in values.items()}
    body: dict[str, Any] = {}
    for rule in mapping.rules(kind):
        try:
            found = [template.filled(kept) for template in rule.templates]
        except Unread:
            continue
        body[rule.field] = _entries(rule.field, found, mapping.ignored) if rule.many else found[0]
    return body


def _is_junk(name: str, value: Scalar, mapping: FieldMapping) -> bool:
    return name not in _KEYS and isinstance(value, str) and fold(value) in mapping.ignored


def _entries(field: str, found: Iterable[Scalar], ignored: Collection[str]) -> list[str]:
    """The entries of a list, each once, as Zendesk will show them: it spells tags and domains in lower case."""
    entries: Iterator[str] = (text for text in map(as_text, found) if fold(text) not in ignored)
    if field == "tags":  # what separates tags cannot be in one
        entries = (re.sub(r"[^\w\-:/.]+", "_", one.lower()).strip("_") for one in entries)
    elif field == "domain_names":
        entries = (one.lower() for one in entries)
    return list({fold(one): one for one in entries if one}.values())


def _filled(template: str, **parts: str) -> str:
    """`template` with its parts; `,` and `%` are percent-encoded because Zendesk takes lists of ids by comma."""
    try:
        return template.format(**{name: part.replace("%", "%25").replace(",", "%2C") for name, part in parts.items()})
    except (KeyError, IndexError, ValueError):
        raise FixFirst(
            f"The key template {template!r} cannot be filled.", advice=f"It may use {', '.join(sorted(parts))}."
        ) from None


def _page(template: str, customer: Customer) -> str:
    """The address with its parts percent-encoded: a customer code cannot break out of it."""
    parts = {"code": customer.code, "shared_set": customer.shared_set, "domain": customer.domain}
    return template.format(**{name: quote(part, safe="") for name, part in parts.items()})
