"""The ledger's tables, by purpose. What each row is the memory of stands in its table's comment.

Conventions: every key starts with a source, account or flow; a connection id is never a key. `*_at` is ISO 8601 UTC
text, which sorts; `*_epoch`, `*_until` are Unix seconds. `*_folded` went through `records.fold`. Keys compare by code
point on every database (collation "C" on PostgreSQL), so that "the lowest key" means one thing.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    FromClause,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    column,
    literal_column,
    table,
    text,
)

metadata = MetaData(
    naming_convention={"ix": "%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s", "uq": "uq_%(table_name)s"}
)

Key = String().with_variant(String(collation="C"), "postgresql")
Id = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers only INTEGER primary keys by itself


def _table(name: str, comment: str, *columns: Column[Any] | Index) -> Table:
    return Table(f"qadzd_{name}", metadata, *columns, comment=comment)


def _required(name: str, kind: object, **more: object) -> Column[Any]:
    return Column(name, kind, nullable=False, **more)  # type: ignore[arg-type]


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


def _part(name: str, kind: object = Key) -> Column[Any]:
    return Column(name, kind, primary_key=True, nullable=False, autoincrement=False)  # type: ignore[arg-type]


source = _table(
    "source",
    "One QAD instance: its normalised base URL and the workspaces read from it.",
    Column("source_id", Id, primary_key=True),
    _required("base_url", Key),
    _required("workspaces", Key),
    _required("first_seen_at", String),
    Index(None, "base_url", "workspaces", unique=True),
)

account = _table(
    "account",
    "One Zendesk account. `slug`: its part of the webhook path; `event_seq` numbers its ticket events; "
    "`set_ticket_organization`: whether onboarding was told to set it where a ticket lacks it.",
    Column("account_id", Id, primary_key=True),
    _required("base_url", Key),
    Column("zendesk_id", BigInteger),
    _required("slug", Key),
    _required("event_seq", BigInteger, server_default=text("0")),
    Column("webhook_id", String),
    Column("onboarded_at", String),
    _required("set_ticket_organization", Boolean, server_default=text("false")),
    _required("first_seen_at", String),
    Index(None, "base_url", unique=True),
    Index(None, "slug", unique=True),
)

flow = _table(
    "flow",
    "A source feeding an account, with its external-id templates. Neither may change under a flow's links.",
    Column("flow_id", Id, primary_key=True),
    _required("flow_name", Key),
    _required("source_id", Id),
    _required("account_id", Id),
    _required("organization_template", String),
    _required("user_template", String),
    _required("mapping_digest", String, server_default=""),
    _required("first_seen_at", String),
    Index(None, "flow_name", unique=True),
)

qad_read = _table(
    "qad_read",
    "One read of one kind of QAD record. `complete` is null while it runs; `reason`: why it is not.",
    Column("read_id", Id, primary_key=True),
    _required("source_id", Id),
    _required("kind", Key),
    _required("read_mode", String),
    Column("complete", Boolean),
    _required("row_count", Integer, server_default=text("0")),
    _required("reason", Text, server_default=""),
    _required("started_at", String),
    Column("ended_at", String),
    _required("run", String, server_default=""),
    _required("newest", String, server_default=""),  # the greatest date of a change among its rows
    _required("columns_digest", String, server_default=""),  # of the columns that the mapping names
    Index(None, "source_id", "kind", "complete"),
)

qad_record = _table(
    "qad_record",
    "The last payload of each QAD customer and contact. `contradicted`: one read gave two different.",
    _part("source_id", Id),
    _part("kind"),
    _part("record_key"),
    _required("key_folded", Key),
    _required("payload", JSON),
    _required("digest", String),
    _required("contradicted", Boolean),
    _required("first_seen_at", String),
    _required("last_read", Id),
    Column("absent_at", String),  # since when QAD is taken not to have it any more
)

qad_contact_of = _table(
    "qad_contact_of",
    "Which contact belongs to which customer: the last read that said so, the first that did not.",
    _part("source_id", Id),
    _part("contact_key"),
    _part("customer_key"),
    _required("last_read", Id),
    Column("left_read", Id),
    Index("qadzd_qad_contact_of_left", "source_id", "contact_key", **_where("left_read IS NOT NULL")),
)

wanted = _table(
    "wanted",
    "How each record should look in Zendesk, as mapped fields; `last_outcome`: what became of it.",
    _part("flow_id", Id),
    _part("kind"),
    _part("record_key"),
    _required("external_id", String),
    _required("external_folded", Key),
    _required("body", JSON),
    _required("fingerprint", String),
    _required("made_from", String),
    _required("name_folded", Key),
    _required("email_folded", Key, server_default=""),
    _required("email_rank", Integer, server_default=text("0")),
    _required("owners", JSON),
    _required("aside", String, server_default=""),
    _required("ended", Boolean, server_default=text("false")),
    _required("last_outcome", String, server_default=""),
    _required("last_detail", Text, server_default=""),
    Index(None, "flow_id", "kind", "name_folded", "record_key"),
    Index(None, "flow_id", "kind", "email_folded", "email_rank", "record_key"),
    Index(None, "flow_id", "kind", "external_folded", "record_key"),
)

mirror = _table(
    "mirror",
    "What Zendesk has: the mapped fields of each organization and user, as last observed.",
    _part("account_id", Id),
    _part("kind"),
    _part("zendesk_id", BigInteger),
    _required("external_folded", Key, server_default=""),
    _required("name_folded", Key),
    _required("email_folded", Key, server_default=""),
    _required("user_role", String, server_default=""),
    _required("active", Boolean),
    _required("suspended", Boolean),
    Column("organization_id", BigInteger),
    _required("fields", JSON),
    _required("digest", String),
    _required("updated_at", String, server_default=""),
    _required("observed_epoch", Double),
    Index(None, "account_id", "kind", "external_folded"),
    Index(None, "account_id", "kind", "name_folded"),
    Index(None, "account_id", "kind", "email_folded"),
)

link = _table(
    "link",
    "QAD key to Zendesk id. `fingerprint`, `current_digest`: wanted and there, when they last agreed.",
    _part("flow_id", Id),
    _part("kind"),
    _part("record_key"),
    _part("other_key"),  # a membership's customer, an identity's address
    _required("account_id", Id),
    Column("zendesk_id", BigInteger),  # none for a membership that came with its user
    _required("body", JSON),
    _required("fingerprint", String, server_default=""),
    _required("current_digest", String, server_default=""),
    _required("ours", Boolean),
    _required("linked_at", String),
    Column("ended_at", String),  # since when QAD no longer asks for this membership
    Index(None, "account_id", "kind", "zendesk_id", unique=True),
    Index("qadzd_link_ended", "flow_id", "kind", "record_key", **_where("ended_at IS NOT NULL")),
)

plan = _table(
    "plan",
    "One plan: counts by decision, a hash over what it would do, who is set aside and why, how far it is.",
    Column("plan_id", Id, primary_key=True),
    _required("flow_id", Id),
    _required("plan_hash", String),
    _required("counts", JSON),
    _required("made_at", String),
    _required("run", String, server_default=""),
    _required("plan_mode", String, server_default=""),
    _required("plan_state", Key, server_default="drafting"),
    _required("change_count", Integer, server_default=text("0")),
    _required("asides", JSON),
    _required("estimate", JSON),
    _required("stopped", Text, server_default=""),
    _required("approved_by", String, server_default=""),
    Column("approved_at", String),
    _required("released_by", String, server_default=""),
    Index(None, "flow_id", "plan_state", "plan_id"),
)

change_item = _table(
    "change_item",
    "One intended write, from plan to outcome: drafted, planned, sent (job_id once known), unknown, done.",
    Column("change_id", Id, primary_key=True),
    _required("plan_id", Id),
    _required("flow_id", Id),
    _required("account_id", Id),
    _required("kind", Key),
    _required("record_key", Key),
    _required("other_key", Key, server_default=""),
    _required("target", Key),
    _required("operation", String),
    _required("intended", String, server_default=""),
    Column("zendesk_id", BigInteger),
    _required("base", String, server_default=""),
    _required("fingerprint", String, server_default=""),
    _required("difference", JSON),
    _required("remember", JSON),
    _required("change_state", Key),
    _required("job_id", String, server_default=""),
    _required("outcome", String, server_default=""),
    _required("reason", Text, server_default=""),
    _required("attempts", Integer, server_default=text("0")),
    _required("planned_at", String),
    Column("sent_epoch", Double),
    Column("ended_at", String),
    _required("run", String, server_default=""),
    _required("released", Boolean, server_default=text("false")),  # a replay lifted what this refusal holds back
    Index("qadzd_change_item_next", "flow_id", "kind", "attempts", "change_id", **_where("change_state='planned'")),
    Index("qadzd_change_item_in_a_job", "account_id", "job_id", **_where("change_state='sent'")),
    Index("qadzd_change_item_one_open", "account_id", "kind", "target", unique=True, **_where("change_state<>'done'")),
    Index(None, "flow_id", "change_state", "kind", "change_id"),
    Index(None, "plan_id", "change_id"),
    Index("qadzd_change_item_open_of_record", "flow_id", "kind", "record_key", **_where("change_state<>'done'")),
    Index("qadzd_change_item_of_record", "flow_id", "kind", "record_key"),
)

applier = _table(
    "applier",
    "The one applier of an account, while its lease lasts.",
    _part("account_id", Id),
    _required("owner", String),
    _required("lease_until", Double),
    _required("version", Integer),
)

audit_entry = _table(
    "audit_entry",
    "What happened to a record, written only when something changed; append-only.",
    Column("audit_id", Id, primary_key=True),
    Column("flow_id", Id),
    Column("account_id", Id),
    _required("kind", Key),
    _required("record_key", Key),
    _required("event", String),
    _required("detail", JSON),
    _required("happened_at", String),
    _required("run", String, server_default=""),
    Index(None, "kind", "record_key"),
)

drift = _table(
    "drift",
    "Each difference of Zendesk from what we wrote, while it stands; `look` saw it last.",
    _part("flow_id", Id),
    _part("kind"),
    _part("record_key"),
    _part("other_key"),  # a membership's customer, a duplicate's Zendesk id
    _part("what"),
    _required("zendesk_id", BigInteger),
    Column("other_id", BigInteger),  # the Zendesk record that it also concerns: a merge's winner, a duplicate, a home
    _required("detail", JSON),
    _required("first_seen_at", String),
    _required("last_seen_at", String),
    _required("look", BigInteger),
)

inbox = _table(
    "inbox",
    "Each accepted webhook delivery. `body` goes once it is drained, not while set aside; `heard`: how often it came.",
    Column("delivery_id", Id, primary_key=True),
    _required("account_id", Id),
    Column("payload_id", Key),
    _required("signature", Key),
    Column("body", LargeBinary),
    _required("kind", String),
    Column("ticket_id", BigInteger),
    _required("occurred_at", String, server_default=""),
    _required("received_at", String),
    _required("heard", Integer, server_default=text("1")),
    _required("inbox_state", Key),
    _required("reason", Text, server_default=""),
    Column("drained_at", String),
    Index(None, "account_id", "payload_id", unique=True),
    Index(None, "account_id", "signature", unique=True),
    Index(None, "account_id", "inbox_state", "delivery_id"),
)

ticket = _table(
    "ticket",
    "The newest known state of each Zendesk ticket, and its QAD customer; never its description.",
    _part("account_id", Id),
    _part("ticket_id", BigInteger),
    _required("version_epoch", Double),
    _required("fetched_epoch", Double),
    _required("status", Key),
    _required("gone", Boolean),
    _required("subject", Text, server_default=""),
    _required("priority", String, server_default=""),
    _required("ticket_type", String, server_default=""),
    _required("external_id", String, server_default=""),
    Column("requester_id", BigInteger),
    Column("organization_id", BigInteger),
    Column("assignee_id", BigInteger),
    Column("group_id", BigInteger),
    _required("created_at", String, server_default=""),
    _required("updated_at", String, server_default=""),
    _required("solved_at", String, server_default=""),
    _required("tags", JSON),
    _required("custom_fields", JSON),
    Column("flow_id", Id),
    Column("customer_key", Key),
    _required("match_reason", String, server_default=""),
    _required("match_detail", Text, server_default=""),
    Index(None, "account_id", "customer_key"),
    Index(None, "account_id", "requester_id"),
    Index(None, "account_id", "organization_id"),
)

ticket_event = _table(
    "ticket_event",
    "What the sensor reads: one per drained delivery, and one per export row that moved a ticket.",
    _part("account_id", Id),
    _part("seq", BigInteger),
    _required("ticket_id", BigInteger),
    _required("kind", String),
    _required("status", String),
    _required("found_by", String),
    Column("delivery_id", Id),
    Column("flow_id", Id),
    Column("customer_key", Key),
    _required("occurred_at", String),
    _required("recorded_at", String),
    Index(None, "account_id", "ticket_id"),
    Index(None, "account_id", "delivery_id"),
)

ticket_history = _table(
    "ticket_history",
    "Zendesk's own events of each ticket, from the ticket event export.",
    _part("account_id", Id),
    _part("event_id", BigInteger),
    _required("ticket_id", BigInteger),
    _required("occurred_at", String),
    Column("updater_id", BigInteger),
    _required("children", JSON),
    Index(None, "account_id", "ticket_id"),
)

ticket_organization = _table(
    "ticket_organization",
    "The setting of a ticket's missing organization in Zendesk: planned, sent (its job once known), done.",
    _part("account_id", Id),
    _part("ticket_id", BigInteger),
    _required("flow_id", Id),
    _required("organization_id", BigInteger),
    _required("intent_state", Key),
    _required("job_id", String, server_default=""),
    _required("outcome", String, server_default=""),
    _required("attempts", Integer, server_default=text("0")),
    Column("sent_epoch", Double),
    _required("run", String, server_default=""),
    Index("qadzd_ticket_organization_open", "account_id", **_where("intent_state='sent'")),
)

export_cursor = _table(
    "export_cursor",
    "Where each export goes on, committed with its page. `position`: a cursor, or `start:<epoch>`.",
    _part("account_id", Id),
    _part("leg"),
    _required("position", Text),
    _required("moved_at", String),
)

export_run = _table(
    "export_run",
    "The stretch that one run read, so that a cleared run reads it again and moves nothing.",
    _part("account_id", Id),
    _part("leg"),
    _part("dag_id"),
    _part("run_id"),
    _required("first_position", Text),
    _required("last_position", Text),
)

export_window = _table(
    "export_window",
    "One interval of the history export: open (goes on at `position`) or complete.",
    _part("account_id", Id),
    _part("leg"),
    _part("starts_at"),
    _part("ends_at"),
    _required("position", Text),
    _required("window_state", String),
    _required("ticket_count", Integer),
    _required("moved_at", String),
)

sensor_stretch = _table(
    "sensor_stretch",
    "Which ticket events (after `from_seq`, up to `to_seq`) one run of one sensor returned.",
    _part("account_id", Id),
    _part("dag_id"),
    _part("task_id"),
    _part("run_id"),
    _required("from_seq", BigInteger),
    _required("to_seq", BigInteger),
    _required("recorded_at", String),
)

credential = _table(
    "credential",
    "Rotating tokens and signing secrets, sealed by a vault key; with the lease of whoever refreshes.",
    _part("holder"),
    _part("credential_name"),
    _required("key_id", String),
    _required("sealed", LargeBinary),
    _required("version", Integer),
    _required("credential_state", String),
    _required("lease_owner", String, server_default=""),
    _required("lease_until", Double, server_default=text("0")),
    _required("written_at", String),
)

rate_budget = _table(
    "rate_budget",
    "Calls taken lately, by account and budget, shared by all processes.",
    _part("account_id", Id),
    _part("budget_name"),
    _required("limit_calls", Integer),
    _required("spent", JSON),
    _required("blocked_until", Double),
)

tombstone = _table(
    "tombstone",
    "Who was forgotten, as HMACs over key, email and ids: whatever bears one of these is not stored again.",
    _part("mark"),
    _required("forgotten_at", String),
)


customer_tickets = table(
    "qadzd_customer_tickets",
    *(column(name) for name in ("flow_name", "customer_key", "open_tickets", "solved_tickets", "last_activity_at")),
)
"""A view, made by the migration: each customer's tickets in numbers, to be joined with other data by its key."""


def is_open(item: FromClause) -> ColumnElement[bool]:
    """That a change is not over, in the words of its partial indexes: SQLite takes one only for a constant."""
    return item.c.change_state != literal_column("'done'")


def is_planned(item: FromClause) -> ColumnElement[bool]:
    """That a change waits to be sent, in the words of the index that tells the next one."""
    return item.c.change_state == literal_column("'planned'")


def is_sent(item: FromClause) -> ColumnElement[bool]:
    """That a change was sent, in the words of the index of those that a job carries."""
    return item.c.change_state == literal_column("'sent'")
