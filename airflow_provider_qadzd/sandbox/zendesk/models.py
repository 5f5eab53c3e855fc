"""The rows that the simulated Zendesk keeps, with the fields and the order in which they are sent.

https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/
https://developer.zendesk.com/api-reference/ticketing/users/users/
https://developer.zendesk.com/api-reference/ticketing/users/user_identities/
https://developer.zendesk.com/api-reference/ticketing/organizations/organization_memberships/
https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class Row(Struct):
    """What every row has."""

    id: int
    url: str


class Organization(Row):
    """A company."""

    name: str
    created_at: str
    updated_at: str
    external_id: str | None = None
    shared_tickets: bool = False
    shared_comments: bool = False
    domain_names: list[str] = field(default_factory=list)
    details: str | None = None
    notes: str | None = None
    group_id: int | None = None
    tags: list[str] = field(default_factory=list)
    organization_fields: dict[str, Any] = field(default_factory=dict)


class User(Row):
    """A person. `email` mirrors the primary identity, `organization_id` the default membership."""

    name: str
    created_at: str
    updated_at: str
    email: str | None = None
    time_zone: str = "London"
    iana_time_zone: str = "Europe/London"
    phone: str | None = None
    shared_phone_number: bool | None = None
    photo: None = None
    locale_id: int = 1
    locale: str = "en-US"
    organization_id: int | None = None
    role: str = "end-user"
    verified: bool = False
    external_id: str | None = None
    tags: list[str] = field(default_factory=list)
    alias: str | None = None
    active: bool = True
    shared: bool = False
    shared_agent: bool = False
    last_login_at: str | None = None
    two_factor_auth_enabled: bool | None = None
    signature: str | None = None
    details: str | None = None
    notes: str | None = None
    role_type: int | None = None
    custom_role_id: int | None = None
    moderator: bool = False
    ticket_restriction: str | None = "requested"
    only_private_comments: bool = False
    restricted_agent: bool = True
    suspended: bool = False
    default_group_id: int | None = None
    report_csv: bool = False
    user_fields: dict[str, Any] = field(default_factory=dict)


class Identity(Row):
    """One address of a person."""

    user_id: int
    type: str
    value: str
    verified: bool
    primary: bool
    created_at: str
    updated_at: str
    undeliverable_count: int = 0
    deliverable_state: str = "deliverable"
    verification_method: str = "none"
    verified_at: str | None = None


class Membership(Row):
    """A person's place in an organization. `default` is true or null, never false."""

    user_id: int
    organization_id: int
    organization_name: str
    default: bool | None
    created_at: str
    updated_at: str
    view_tickets: bool = False


def via(channel: str = "email") -> dict[str, Any]:
    """How a ticket or an event came in."""
    return {"channel": channel, "source": {"from": {}, "to": {}, "rel": None}}


class Ticket(Row):
    """A request. `generated_timestamp` moves on every change, also on those that leave `updated_at` alone."""

    subject: str
    created_at: str
    updated_at: str
    generated_timestamp: int
    requester_id: int
    submitter_id: int
    external_id: str | None = None
    via: dict[str, Any] = field(default_factory=via)
    type: str | None = None
    raw_subject: str = ""
    description: str = ""
    priority: str | None = None
    status: str = "new"
    recipient: str | None = None
    assignee_id: int | None = None
    organization_id: int | None = None
    group_id: int | None = None
    collaborator_ids: list[int] = field(default_factory=list)
    follower_ids: list[int] = field(default_factory=list)
    email_cc_ids: list[int] = field(default_factory=list)
    forum_topic_id: int | None = None
    problem_id: int | None = None
    has_incidents: bool = False
    is_public: bool = True
    due_at: str | None = None
    tags: list[str] = field(default_factory=list)
    custom_fields: list[dict[str, Any]] = field(default_factory=list)
    satisfaction_rating: dict[str, Any] = field(default_factory=lambda: {"score": "unoffered"})
    sharing_agreement_ids: list[int] = field(default_factory=list)
    custom_status_id: int | None = None
    encoded_id: str = ""
    followup_ids: list[int] = field(default_factory=list)
    ticket_form_id: int = 360000110001
    brand_id: int = 360000220001
    allow_channelback: bool = False
    allow_attachments: bool = True
    from_messaging_channel: bool = False
    fields: list[dict[str, Any]] = field(default_factory=list)


class TicketEvent(Struct):
    """One entry of a ticket's history: who changed what, and when."""

    id: int
    ticket_id: int
    timestamp: int
    created_at: str
    updater_id: int
    via: str
    child_events: list[dict[str, Any]]
    system: dict[str, Any] = field(default_factory=dict)
    event_type: str = "Audit"
    merged_ticket_ids: list[int] = field(default_factory=list)


STATUS_IDS = {"new": 1, "open": 2, "pending": 3, "hold": 4, "solved": 5, "closed": 6, "deleted": 6}


def custom_status_id(status: str) -> int:
    """The id of the custom status that stands for a built-in one."""
    return 360000330000 + STATUS_IDS.get(status, 1)
