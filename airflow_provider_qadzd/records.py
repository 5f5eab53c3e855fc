"""The values that both journeys pass along, and the three Protocols that keep the dialects free of the ledger.

Nothing here touches the network, a database or Airflow. Times are seconds since the Unix epoch (UTC) as floats, or
ISO 8601 strings exactly as a system sent them where the name says so.
"""

from __future__ import annotations

import hashlib
import json
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

Kind = Literal["organization", "user", "membership", "identity"]
"""What is written to Zendesk, in the order in which it is applied."""

Flat = Mapping[str, Any]
"""Mapped fields by dotted name: `{"name": "Acme", "organization_fields.qad_status": "active"}`."""

OUTCOMES = (
    "created", "updated", "unchanged", "adopted", "shared_with", "membership_added", "membership_removed",
    "deactivated", "recreated", "set_aside", "superseded", "postponed", "failed_retryable", "failed", "unknown",
)  # fmt: skip
"""The one vocabulary of what became of a record. `shared_with`, `set_aside` and `postponed` carry a detail."""

FAILED = ("set_aside", "failed", "failed_retryable")
"""Outcomes of a record that came to nothing."""


def fold(text: str) -> str:
    """`text` as names, emails and keys are compared: NFC, stripped, lower case.

    Done once, here, and stored, because databases fold differently (SQLite lowers ASCII only).
    """
    return unicodedata.normalize("NFC", text).strip().lower()


def canonical_json(value: object) -> str:
    """`value` as sorted, compact JSON: equal values give equal text."""
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(*parts: object) -> str:
    """SHA-256 in hex over `parts` joined by NUL; what is not a string is taken as canonical JSON."""
    text = "\0".join(part if isinstance(part, str) else canonical_json(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()


def scoped(scope: str, code: str) -> str:
    """A customer's code within its scope; without one, the code as it is."""
    return f"{scope.replace(':', '%3a')}:{code}" if scope else code


class Customer(msgspec.Struct, frozen=True, gc=False):
    """One QAD customer. `code` is trimmed and otherwise as QAD spells it; `modified` is QAD's date (site-local).

    `scope` is within what the code is unique, folded; empty where codes are unique in the whole instance. `columns` are
    further columns of its browse, as the mapping names them, and no others.
    """

    code: str
    name: str
    active: bool = True
    shared_set: str = ""
    domain: str = ""
    business_relation: str = ""
    street: str = ""
    city: str = ""
    postcode: str = ""
    country: str = ""
    email: str = ""
    phone: str = ""
    modified: str = ""
    scope: str = ""
    columns: Mapping[str, str | int | float | bool | None] = {}

    @property
    def key(self) -> str:
        """What the customer is kept under: its code, within its scope if it has one."""
        return scoped(self.scope, self.code)


class Contact(msgspec.Struct, frozen=True, gc=False):
    """One person at one QAD customer: a contact of two customers is two of these with the same `key`.

    `customer` is the customer's code. `contact_id` is empty where the source does not give it. `scope` and `columns`
    are as for customers.
    """

    customer: str
    name: str
    contact_id: str = ""
    email: str = ""
    phone: str = ""
    function: str = ""
    primary: bool = False
    business_relation: str = ""
    address_type: str = ""
    shared_set: str = ""
    domain: str = ""
    modified: str = ""
    scope: str = ""
    columns: Mapping[str, str | int | float | bool | None] = {}

    @property
    def customer_key(self) -> str:
        """What the customer is kept under."""
        return scoped(self.scope, self.customer)

    @property
    def key(self) -> str:
        """`Contact_ID`, else a stable digest of who this is; a renamed person without an id is another person."""
        if self.contact_id:
            return self.contact_id
        return "d" + digest(self.business_relation or self.customer_key, self.address_type, fold(self.name))[:20]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One record as it should be. `rank` orders contacts that share an email: the primary one first (0).

    `owners` names the fields that do not belong to whom they usually do (`sync/ownership`).
    `ended`: QAD has it no more, so that it is not made anew.
    """

    kind: Kind
    key: str
    external_id: str
    body: Flat
    name: str
    email: str = ""
    rank: int = 0
    aside: str = ""
    owners: Mapping[str, str] = field(default_factory=dict, hash=False)
    ended: bool = False

    @property
    def fingerprint(self) -> str:
        """Equal for equal bodies of the same owners, whatever the record or the rules they were made from."""
        return digest(dict(self.body), dict(self.owners)) if self.owners else digest(dict(self.body))


@dataclass(frozen=True, slots=True)
class Held:
    """A Zendesk record as the mirror has it. `linked_to` is the QAD key it belongs to, None if to none of ours."""

    zendesk_id: int
    fields: Flat
    digest: str
    active: bool = True
    external_folded: str = ""
    email_folded: str = ""
    role: str = ""
    organization_id: int | None = None
    linked_to: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Everything that a decision about one organization or user depends on.

    `link_id` is the Zendesk id that the key is linked to. `name_first` and `email_first` are the lowest keys that want
    the same name and email (the key itself, where nobody else does). `twin` is another key that Zendesk could not tell
    from this one. `remembered` is what the link says was last written, of merged lists only the entries that are ours.
    `ended`: QAD has the record no more.
    """

    kind: Kind
    key: str
    external_id: str
    body: Flat
    fingerprint: str = ""
    aside: str = ""
    ended: bool = False
    name_first: str = ""
    email_first: str = ""
    email_folded: str = ""
    twin: str | None = None
    link_id: int | None = None
    current: Held | None = None
    by_external: Held | None = None
    by_name: Held | None = None
    by_email: Held | None = None
    owners: Mapping[str, str] = field(default_factory=dict)
    remembered: Flat = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Owner:
    """A QAD customer as a flow knows it."""

    flow_id: int
    customer: str


@dataclass(frozen=True, slots=True)
class Token:
    """An OAuth token as it is kept. `expires_at` is None when the issuer did not say. Never logged or printed.

    `version` counts the writes of this credential, so that a late writer cannot overwrite a newer token.
    `state` is `ok`, or `connect_again` once the issuer has refused the refresh token for good. `refresh_until` is when
    the refresh token lapses unless it is used. `authorized_by` is the Airflow user who consented, empty without one.
    """

    access: str = field(repr=False)
    refresh: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    scope: str = ""
    version: int = 0
    state: Literal["ok", "connect_again"] = "ok"
    refresh_until: float | None = None
    authorized_by: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to refresh one credential until `until`; `version` is that of the token it was taken over."""

    name: str
    owner: str
    version: int
    until: float


class TokenStore(Protocol):
    """Where rotating tokens live, shared by all processes. Every method is one short transaction."""

    def read(self, name: str) -> Token | None:
        """The newest token of that name, or None if there never was one."""

    def lease(self, name: str, owner: str, version: int, seconds: float) -> Lease | None:
        """The lease, if nobody else holds it and the token's version is still `version` (0: no token yet)."""

    def save(self, lease: Lease, token: Token) -> bool:
        """Store `token` as the next version and end the lease; False if a newer version is already there."""

    def release(self, lease: Lease, *, connect_again: bool = False) -> None:
        """End the lease without a new token; with `connect_again`, mark the unchanged version as refused."""


class Budget(Protocol):
    """One Zendesk account's call budgets, shared by all processes. Every method is one short transaction.

    Names: `requests` and `exports` (calls in any sixty seconds), `user_updates` (calls in any second).
    """

    def take(self, name: str, count: int = 1) -> float:
        """0.0 and the calls are ours; else the seconds to wait before asking again, and nothing is taken."""

    def block(self, name: str, seconds: float) -> None:
        """The server said to wait: nobody takes from `name` for that long."""

    def learn(self, name: str, limit_per_minute: int) -> None:
        """The server told its limit; the share that is ours is the implementation's."""


class Clock(Protocol):
    """Time, handed in, so that limits and lapses can be tested without waiting."""

    def time(self) -> float:
        """Seconds since the Unix epoch."""

    def sleep(self, seconds: float) -> None:
        """Wait that long."""


class SystemClock:
    """The machine's own clock."""

    def time(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
