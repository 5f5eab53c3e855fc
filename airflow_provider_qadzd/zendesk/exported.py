"""What is read of an export's page: a ticket's description, and whatever else is not kept, never becomes a value.

That is also why it is fast: of 3 kB a ticket some 0.5 are made into objects (seen: 15 ms for a page of a thousand,
where reading all of it takes 75). Nothing here touches the network.

https://developer.zendesk.com/api-reference/ticketing/ticket-management/incremental_exports/
"""

from __future__ import annotations

from typing import Any, TypedDict

import msgspec

from airflow_provider_qadzd.zendesk.wire import Reader


class Ticket(TypedDict, total=False):
    """A ticket, without its words except for the subject."""

    id: int
    status: Any
    subject: Any
    priority: Any
    type: Any
    external_id: Any
    requester_id: int | None
    organization_id: int | None
    assignee_id: int | None
    group_id: int | None
    created_at: Any
    updated_at: Any
    generated_timestamp: Any
    tags: Any
    custom_fields: Any


class Metrics(TypedDict, total=False):
    """A ticket's metric set: the only place that says when it was solved."""

    ticket_id: int
    solved_at: str | None


class Event(TypedDict, total=False):
    """One entry of a ticket's history."""

    id: int
    ticket_id: int
    timestamp: Any
    created_at: Any
    updater_id: int | None
    child_events: Any


class _Page(TypedDict, total=False):
    tickets: list[Ticket] | None
    metric_sets: list[Metrics] | None
    ticket_events: list[Event] | None
    after_cursor: Any
    end_of_stream: Any
    end_time: Any
    next_page: Any


read_page: Reader = msgspec.json.Decoder(_Page).decode
"""A page of tickets with their metric sets, or of ticket events."""
