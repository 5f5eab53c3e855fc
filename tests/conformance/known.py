"""Where the real service is seen to differ from the document, each with the evidence.

The sandbox follows the service, not the document, in these. An entry that no exchange shows any more fails the run as
well, so that the table holds nothing untrue.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from tests.conformance.document import Deviation


@dataclass(frozen=True, slots=True)
class Known:
    """A deviation that is excused, and why. `operation`, `place` and `kind` are patterns in which `*` is anything."""

    side: Literal["request", "answer"]
    operation: str
    place: str
    kind: str
    evidence: str

    def covers(self, one: Deviation) -> bool:
        """Whether this excuses that deviation."""
        pairs = ((one.operation, self.operation), (one.place, self.place), (one.kind, self.kind))
        return one.side == self.side and all(fnmatchcase(text, _literal(pattern)) for text, pattern in pairs)


def _literal(pattern: str) -> str:
    return pattern.replace("[", "[[]")


_LISTS = "The documentation of paging gives every list these, by number or by cursor, and recorded lists have them."
_SEARCHED = "Each result of a search is a whole record, of which the document names what all kinds share."
_GRANTS = "The document describes this body in words; the fields are those of RFC 6749 and RFC 7636."
_SIDELOADS = "The page on incremental exports names the records that come beside tickets; the document leaves them out."
_NAMELESS = "A user needs no more than a name, so there are users without an address."
_PAGED = "The document's own words on listing memberships recommend cursor pagination; its parameters leave it out."
_FIELDS = "An organization recorded in 2024 shows null, and true and false, in custom fields; null is what clears one."
_TICKETS = "Tickets recorded in 2018, 2021 and 2022 show null in these, where nothing was chosen or written."
_USERS = "Users recorded in January 2022 (created and listed) show null in these, where nothing is known."
_MEMBERS = "A membership is made of nothing but a user's and an organization's id, so they must be sent to make one."
_ERASED = "The document's own words on deleted users: of one deleted permanently the properties are null."

KNOWN: tuple[Known, ...] = (
    Known("answer", "* /api/v2/deleted_users/*", "deleted_user.email", "is null", _ERASED),
    Known("answer", "* /api/v2/deleted_users/*", "deleted_user.organization_id", "is null", _ERASED),
    Known(
        "answer", "POST /oauth/tokens", "status", "200 *",
        "Clients in the field see 200, as RFC 6749 has it; ours takes both.",
    ),
    Known(
        "answer", "GET /api/v2/job_statuses*", "job_status*.results.*", "'index' is a required property",
        "Jobs recorded from 2023 to 2025, and a live test of April 2026, give created rows as id and status alone.",
    ),
    Known(
        "answer", "GET /api/v2/job_statuses*", "job_status*.results.*", "'id' is a required property",
        "A failed row is seen as index, error and details, without an id (Zendesk's Java client, issue 98).",
    ),
    Known(
        "answer", "GET /api/v2/job_statuses*", "job_status*.results.*.id", "is null",
        "A record that was not made has no id; what a client saw in its place named nothing (Java client, PR 325).",
    ),
    Known("answer", "*/organizations*", "organization*.organization_fields.*", "is null", _FIELDS),
    Known("request", "PUT /api/v2/organizations/*", "organization.organization_fields.*", "is null", _FIELDS),
    Known("answer", "*", "ticket*fields.*.value", "is null", _TICKETS),
    Known("answer", "*", "ticket*.priority", "is null", _TICKETS),
    Known("answer", "*", "ticket*.type", "is null", _TICKETS),
    Known("answer", "*", "ticket*.forum_topic_id", "is null", _TICKETS),
    Known("answer", "*", "ticket*.recipient", "is null", _TICKETS),
    Known(
        "answer", "GET /api/v2/incremental/tickets*", "tickets.*.status", "is text that breaks enum",
        "Exports show deleted tickets with the status deleted, as their page says and recordings of 2018 show.",
    ),
    Known("answer", "*/users*", "user*.organization_id", "is null", _USERS),
    Known("answer", "*/users*", "user*.phone", "is null", _USERS),
    Known("answer", "*/users*", "user*.photo", "is null", _USERS),
    Known("answer", "*/users*", "user*.shared_phone_number", "is null", _USERS),
    Known(
        "answer", "*/triggers*", "trigger*.description", "is null",
        "A trigger recorded in March 2021 has no description, and neither has the document's example of a revision.",
    ),
    Known(
        "request", "GET /api/v2/organizations/search", "query external_id", "* to integer type: *",
        "The document's own organization has an external id of letters and digits.",
    ),
    Known("request", "GET */organization_memberships", "query page[size]", "is not declared", _PAGED),
    Known("request", "POST */organization_memberships*", "*.user_id", "* readOnly", _MEMBERS),
    Known("request", "POST */organization_memberships*", "*.organization_id", "* readOnly", _MEMBERS),
    Known(
        "request", "PUT /api/v2/tickets/update_many", "tickets.*.id", "* readOnly",
        "A batch of different changes has to name each ticket, and zenpy does it like this.",
    ),
    Known("request", "POST /oauth/tokens", "*", "is not declared", _GRANTS),
    Known("answer", "GET *", "meta", "is not declared", _LISTS),
    Known("answer", "GET *", "links", "is not declared", _LISTS),
    Known("answer", "GET *", "count", "is not declared", _LISTS),
    Known("answer", "GET *", "next_page", "is not declared", _LISTS),
    Known("answer", "GET *", "previous_page", "is not declared", _LISTS),
    Known("answer", "GET /api/v2/search*", "results.*.*", "is not declared", _SEARCHED),
    Known("answer", "* /api/v2/users*", "user*.email", "is null", _NAMELESS),
    Known(
        "answer", "POST /api/v2/tickets", "audit", "is not declared",
        "zenpy, of 2026, gives its callers the audit beside a created ticket; the document has it for a changed one.",
    ),
    Known("request", "GET /api/v2/incremental/tickets/cursor", "query include", "is not declared", _SIDELOADS),
    Known("answer", "GET /api/v2/incremental/tickets/cursor", "metric_sets", "is not declared", _SIDELOADS),
    Known(
        "answer", "GET /api/v2/incremental/ticket_events", "ticket_events.*.*", "is not declared",
        "The document gives these the form of metric events; the page on exports, and zenpy, have those of a history.",
    ),
    Known(
        "answer", "GET /api/v2/incremental/ticket_metric_events", "end_of_stream", "is not declared",
        "The page on time-based exports gives every one of them this field.",
    ),
    Known(
        "answer", "GET /api/v2/incremental/*/sample", "*", "is not declared",
        "The document's own words let a sample be of users, organizations or ticket events; its answer is of tickets.",
    ),
    Known(
        "answer", "GET /api/v2/triggers/definitions", "definitions.conditions_any.*.values", "is not declared",
        "The document's words give both lists of conditions their possible values; its schema, only the first.",
    ),
    Known(
        "request", "POST /api/v2/users/{user_id}/identities", "identity.skip_verify_email", "is not declared",
        "The document's own words on making an identity name it: without it Zendesk writes to the address.",
    ),
)  # fmt: skip
