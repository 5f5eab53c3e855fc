"""the ledger's first tables"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "qadzd_account",
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("base_url", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("zendesk_id", sa.BigInteger(), nullable=True),
        sa.Column("slug", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("event_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("webhook_id", sa.String(), nullable=True),
        sa.Column("onboarded_at", sa.String(), nullable=True),
        sa.Column("set_ticket_organization", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("first_seen_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_qadzd_account")),
        comment="One Zendesk account. `slug`: its part of the webhook path; `event_seq` numbers its ticket events; "
        "`set_ticket_organization`: whether onboarding was told to set it where a ticket lacks it.",
    )
    op.create_index(op.f("qadzd_account_base_url"), "qadzd_account", ["base_url"], unique=True)
    op.create_index(op.f("qadzd_account_slug"), "qadzd_account", ["slug"], unique=True)
    op.create_table(
        "qadzd_applier",
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_qadzd_applier")),
        comment="The one applier of an account, while its lease lasts.",
    )
    op.create_table(
        "qadzd_audit_entry",
        sa.Column("audit_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("flow_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("kind", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("record_key", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("happened_at", sa.String(), nullable=False),
        sa.Column("run", sa.String(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_qadzd_audit_entry")),
        comment="What happened to a record, written only when something changed; append-only.",
    )
    op.create_index(
        op.f("qadzd_audit_entry_kind_record_key"), "qadzd_audit_entry", ["kind", "record_key"], unique=False
    )
    op.create_table(
        "qadzd_change_item",
        sa.Column("change_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("plan_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("flow_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("record_key", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column(
            "other_key",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.Column("target", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("operation", sa.String(), nullable=False),
        sa.Column("intended", sa.String(), server_default="", nullable=False),
        sa.Column("zendesk_id", sa.BigInteger(), nullable=True),
        sa.Column("base", sa.String(), server_default="", nullable=False),
        sa.Column("fingerprint", sa.String(), server_default="", nullable=False),
        sa.Column("difference", sa.JSON(), nullable=False),
        sa.Column("remember", sa.JSON(), nullable=False),
        sa.Column("change_state", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("job_id", sa.String(), server_default="", nullable=False),
        sa.Column("outcome", sa.String(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("planned_at", sa.String(), nullable=False),
        sa.Column("sent_epoch", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.String(), nullable=True),
        sa.Column("run", sa.String(), server_default="", nullable=False),
        sa.Column("released", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("change_id", name=op.f("pk_qadzd_change_item")),
        comment="One intended write, from plan to outcome: drafted, planned, sent (job_id once known), unknown, done.",
    )
    op.create_index(
        op.f("qadzd_change_item_plan_id_change_id"), "qadzd_change_item", ["plan_id", "change_id"], unique=False
    )
    op.create_index(
        op.f("qadzd_change_item_flow_id_change_state_kind_change_id"),
        "qadzd_change_item",
        ["flow_id", "change_state", "kind", "change_id"],
        unique=False,
    )
    op.create_index("qadzd_change_item_of_record", "qadzd_change_item", ["flow_id", "kind", "record_key"], unique=False)
    op.create_index(
        "qadzd_change_item_in_a_job",
        "qadzd_change_item",
        ["account_id", "job_id"],
        unique=False,
        sqlite_where=sa.text("change_state='sent'"),
        postgresql_where=sa.text("change_state='sent'"),
    )
    op.create_index(
        "qadzd_change_item_next",
        "qadzd_change_item",
        ["flow_id", "kind", "attempts", "change_id"],
        unique=False,
        sqlite_where=sa.text("change_state='planned'"),
        postgresql_where=sa.text("change_state='planned'"),
    )
    op.create_index(
        "qadzd_change_item_open_of_record",
        "qadzd_change_item",
        ["flow_id", "kind", "record_key"],
        unique=False,
        sqlite_where=sa.text("change_state<>'done'"),
        postgresql_where=sa.text("change_state<>'done'"),
    )
    op.create_index(
        "qadzd_change_item_one_open",
        "qadzd_change_item",
        ["account_id", "kind", "target"],
        unique=True,
        sqlite_where=sa.text("change_state<>'done'"),
        postgresql_where=sa.text("change_state<>'done'"),
    )
    op.create_table(
        "qadzd_credential",
        sa.Column(
            "holder",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "credential_name",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("credential_state", sa.String(), nullable=False),
        sa.Column("lease_owner", sa.String(), server_default="", nullable=False),
        sa.Column("lease_until", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("written_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("holder", "credential_name", name=op.f("pk_qadzd_credential")),
        comment="Rotating tokens and signing secrets, sealed by a vault key; with the lease of whoever refreshes.",
    )
    op.create_table(
        "qadzd_drift",
        sa.Column("flow_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column(
            "kind",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "record_key",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "other_key",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "what",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("zendesk_id", sa.BigInteger(), nullable=False),
        sa.Column("other_id", sa.BigInteger(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("first_seen_at", sa.String(), nullable=False),
        sa.Column("last_seen_at", sa.String(), nullable=False),
        sa.Column("look", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("flow_id", "kind", "record_key", "other_key", "what", name=op.f("pk_qadzd_drift")),
        comment="Each difference of Zendesk from what we wrote, while it stands; `look` saw it last.",
    )
    op.create_table(
        "qadzd_export_cursor",
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column(
            "leg", sa.String().with_variant(sa.String(collation="C"), "postgresql"), autoincrement=False, nullable=False
        ),
        sa.Column("position", sa.Text(), nullable=False),
        sa.Column("moved_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "leg", name=op.f("pk_qadzd_export_cursor")),
        comment="Where each export goes on, committed with its page. `position`: a cursor, or `start:<epoch>`.",
    )
    op.create_table(
        "qadzd_export_run",
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column(
            "leg", sa.String().with_variant(sa.String(collation="C"), "postgresql"), autoincrement=False, nullable=False
        ),
        sa.Column(
            "dag_id",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "run_id",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("first_position", sa.Text(), nullable=False),
        sa.Column("last_position", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "leg", "dag_id", "run_id", name=op.f("pk_qadzd_export_run")),
        comment="The stretch that one run read, so that a cleared run reads it again and moves nothing.",
    )
    op.create_table(
        "qadzd_export_window",
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column(
            "leg", sa.String().with_variant(sa.String(collation="C"), "postgresql"), autoincrement=False, nullable=False
        ),
        sa.Column(
            "starts_at",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "ends_at",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("position", sa.Text(), nullable=False),
        sa.Column("window_state", sa.String(), nullable=False),
        sa.Column("ticket_count", sa.Integer(), nullable=False),
        sa.Column("moved_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "leg", "starts_at", "ends_at", name=op.f("pk_qadzd_export_window")),
        comment="One interval of the history export: open (goes on at `position`) or complete.",
    )
    op.create_table(
        "qadzd_flow",
        sa.Column("flow_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("flow_name", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("source_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("organization_template", sa.String(), nullable=False),
        sa.Column("user_template", sa.String(), nullable=False),
        sa.Column("mapping_digest", sa.String(), server_default="", nullable=False),
        sa.Column("first_seen_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("flow_id", name=op.f("pk_qadzd_flow")),
        comment="A source feeding an account, with its external-id templates. Neither may change under a flow's links.",
    )
    op.create_index(op.f("qadzd_flow_flow_name"), "qadzd_flow", ["flow_name"], unique=True)
    op.create_table(
        "qadzd_inbox",
        sa.Column("delivery_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("payload_id", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=True),
        sa.Column("signature", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("ticket_id", sa.BigInteger(), nullable=True),
        sa.Column("occurred_at", sa.String(), server_default="", nullable=False),
        sa.Column("received_at", sa.String(), nullable=False),
        sa.Column("heard", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("inbox_state", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("drained_at", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_qadzd_inbox")),
        comment="Each accepted webhook delivery. `body` goes once it is drained, not while set aside; "
        "`heard`: how often it came.",
    )
    op.create_index(
        op.f("qadzd_inbox_account_id_inbox_state_delivery_id"),
        "qadzd_inbox",
        ["account_id", "inbox_state", "delivery_id"],
        unique=False,
    )
    op.create_index(op.f("qadzd_inbox_account_id_payload_id"), "qadzd_inbox", ["account_id", "payload_id"], unique=True)
    op.create_index(op.f("qadzd_inbox_account_id_signature"), "qadzd_inbox", ["account_id", "signature"], unique=True)
    op.create_table(
        "qadzd_link",
        sa.Column("flow_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column(
            "kind",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "record_key",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "other_key",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("zendesk_id", sa.BigInteger(), nullable=True),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("fingerprint", sa.String(), server_default="", nullable=False),
        sa.Column("current_digest", sa.String(), server_default="", nullable=False),
        sa.Column("ours", sa.Boolean(), nullable=False),
        sa.Column("linked_at", sa.String(), nullable=False),
        sa.Column("ended_at", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("flow_id", "kind", "record_key", "other_key", name=op.f("pk_qadzd_link")),
        comment="QAD key to Zendesk id. `fingerprint`, `current_digest`: wanted and there, when they last agreed.",
    )
    op.create_index(
        op.f("qadzd_link_account_id_kind_zendesk_id"), "qadzd_link", ["account_id", "kind", "zendesk_id"], unique=True
    )
    op.create_index(
        "qadzd_link_ended",
        "qadzd_link",
        ["flow_id", "kind", "record_key"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NOT NULL"),
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
    op.create_table(
        "qadzd_mirror",
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column(
            "kind",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("zendesk_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "external_folded",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.Column("name_folded", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column(
            "email_folded",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.Column("user_role", sa.String(), server_default="", nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        sa.Column("organization_id", sa.BigInteger(), nullable=True),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("updated_at", sa.String(), server_default="", nullable=False),
        sa.Column("observed_epoch", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "kind", "zendesk_id", name=op.f("pk_qadzd_mirror")),
        comment="What Zendesk has: the mapped fields of each organization and user, as last observed.",
    )
    op.create_index(
        op.f("qadzd_mirror_account_id_kind_email_folded"),
        "qadzd_mirror",
        ["account_id", "kind", "email_folded"],
        unique=False,
    )
    op.create_index(
        op.f("qadzd_mirror_account_id_kind_external_folded"),
        "qadzd_mirror",
        ["account_id", "kind", "external_folded"],
        unique=False,
    )
    op.create_index(
        op.f("qadzd_mirror_account_id_kind_name_folded"),
        "qadzd_mirror",
        ["account_id", "kind", "name_folded"],
        unique=False,
    )
    op.create_table(
        "qadzd_plan",
        sa.Column("plan_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("flow_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("made_at", sa.String(), nullable=False),
        sa.Column("run", sa.String(), server_default="", nullable=False),
        sa.Column("plan_mode", sa.String(), server_default="", nullable=False),
        sa.Column(
            "plan_state",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            server_default="drafting",
            nullable=False,
        ),
        sa.Column("change_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("asides", sa.JSON(), nullable=False),
        sa.Column("estimate", sa.JSON(), nullable=False),
        sa.Column("stopped", sa.Text(), server_default="", nullable=False),
        sa.Column("approved_by", sa.String(), server_default="", nullable=False),
        sa.Column("approved_at", sa.String(), nullable=True),
        sa.Column("released_by", sa.String(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("plan_id", name=op.f("pk_qadzd_plan")),
        comment="One plan: counts by decision, a hash over what it would do, who is set aside and why, how far it is.",
    )
    op.create_index(
        op.f("qadzd_plan_flow_id_plan_state_plan_id"),
        "qadzd_plan",
        ["flow_id", "plan_state", "plan_id"],
        unique=False,
    )
    op.create_table(
        "qadzd_qad_contact_of",
        sa.Column(
            "source_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column(
            "contact_key",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "customer_key",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("last_read", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("left_read", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.PrimaryKeyConstraint("source_id", "contact_key", "customer_key", name=op.f("pk_qadzd_qad_contact_of")),
        comment="Which contact belongs to which customer: the last read that said so, the first that did not.",
    )
    op.create_index(
        "qadzd_qad_contact_of_left",
        "qadzd_qad_contact_of",
        ["source_id", "contact_key"],
        unique=False,
        sqlite_where=sa.text("left_read IS NOT NULL"),
        postgresql_where=sa.text("left_read IS NOT NULL"),
    )
    op.create_table(
        "qadzd_qad_read",
        sa.Column("read_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("source_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("read_mode", sa.String(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=True),
        sa.Column("row_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("started_at", sa.String(), nullable=False),
        sa.Column("ended_at", sa.String(), nullable=True),
        sa.Column("run", sa.String(), server_default="", nullable=False),
        sa.Column("newest", sa.String(), server_default="", nullable=False),
        sa.Column("columns_digest", sa.String(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("read_id", name=op.f("pk_qadzd_qad_read")),
        comment="One read of one kind of QAD record. `complete` is null while it runs; `reason`: why it is not.",
    )
    op.create_index(
        op.f("qadzd_qad_read_source_id_kind_complete"),
        "qadzd_qad_read",
        ["source_id", "kind", "complete"],
        unique=False,
    )
    op.create_table(
        "qadzd_qad_record",
        sa.Column(
            "source_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column(
            "kind",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "record_key",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("key_folded", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("contradicted", sa.Boolean(), nullable=False),
        sa.Column("first_seen_at", sa.String(), nullable=False),
        sa.Column("last_read", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("absent_at", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("source_id", "kind", "record_key", name=op.f("pk_qadzd_qad_record")),
        comment="The last payload of each QAD customer and contact. `contradicted`: one read gave two different.",
    )
    if op.get_context().dialect.name == "postgresql":
        # Each read notes itself in every row. With room in each page no index is written for that: half the time, and
        # the table stays as it is instead of growing by itself with each read (seen: 50 to 116 MB in four).
        op.execute("ALTER TABLE qadzd_qad_record SET (fillfactor = 50)")
    op.create_table(
        "qadzd_rate_budget",
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column(
            "budget_name",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("limit_calls", sa.Integer(), nullable=False),
        sa.Column("spent", sa.JSON(), nullable=False),
        sa.Column("blocked_until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "budget_name", name=op.f("pk_qadzd_rate_budget")),
        comment="Calls taken lately, by account and budget, shared by all processes.",
    )
    op.create_table(
        "qadzd_sensor_stretch",
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column(
            "dag_id",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "task_id",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "run_id",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("from_seq", sa.BigInteger(), nullable=False),
        sa.Column("to_seq", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "dag_id", "task_id", "run_id", name=op.f("pk_qadzd_sensor_stretch")),
        comment="Which ticket events (after `from_seq`, up to `to_seq`) one run of one sensor returned.",
    )
    op.create_table(
        "qadzd_source",
        sa.Column("source_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("base_url", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("workspaces", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("first_seen_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_qadzd_source")),
        comment="One QAD instance: its normalised base URL and the workspaces read from it.",
    )
    op.create_index(op.f("qadzd_source_base_url_workspaces"), "qadzd_source", ["base_url", "workspaces"], unique=True)
    op.create_table(
        "qadzd_ticket",
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("ticket_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version_epoch", sa.Double(), nullable=False),
        sa.Column("fetched_epoch", sa.Double(), nullable=False),
        sa.Column("status", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("gone", sa.Boolean(), nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("priority", sa.String(), server_default="", nullable=False),
        sa.Column("ticket_type", sa.String(), server_default="", nullable=False),
        sa.Column("external_id", sa.String(), server_default="", nullable=False),
        sa.Column("requester_id", sa.BigInteger(), nullable=True),
        sa.Column("organization_id", sa.BigInteger(), nullable=True),
        sa.Column("assignee_id", sa.BigInteger(), nullable=True),
        sa.Column("group_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.String(), server_default="", nullable=False),
        sa.Column("updated_at", sa.String(), server_default="", nullable=False),
        sa.Column("solved_at", sa.String(), server_default="", nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("custom_fields", sa.JSON(), nullable=False),
        sa.Column("flow_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("customer_key", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=True),
        sa.Column("match_reason", sa.String(), server_default="", nullable=False),
        sa.Column("match_detail", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("account_id", "ticket_id", name=op.f("pk_qadzd_ticket")),
        comment="The newest known state of each Zendesk ticket, and its QAD customer; never its description.",
    )
    op.create_index(
        op.f("qadzd_ticket_account_id_customer_key"), "qadzd_ticket", ["account_id", "customer_key"], unique=False
    )
    op.create_index(
        op.f("qadzd_ticket_account_id_organization_id"), "qadzd_ticket", ["account_id", "organization_id"], unique=False
    )
    op.create_index(
        op.f("qadzd_ticket_account_id_requester_id"), "qadzd_ticket", ["account_id", "requester_id"], unique=False
    )
    op.create_table(
        "qadzd_ticket_event",
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ticket_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("found_by", sa.String(), nullable=False),
        sa.Column("delivery_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("flow_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("customer_key", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=True),
        sa.Column("occurred_at", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "seq", name=op.f("pk_qadzd_ticket_event")),
        comment="What the sensor reads: one per drained delivery, and one per export row that moved a ticket.",
    )
    op.create_index(
        op.f("qadzd_ticket_event_account_id_delivery_id"),
        "qadzd_ticket_event",
        ["account_id", "delivery_id"],
        unique=False,
    )
    op.create_index(
        op.f("qadzd_ticket_event_account_id_ticket_id"), "qadzd_ticket_event", ["account_id", "ticket_id"], unique=False
    )
    op.create_table(
        "qadzd_ticket_history",
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("event_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ticket_id", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.String(), nullable=False),
        sa.Column("updater_id", sa.BigInteger(), nullable=True),
        sa.Column("children", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "event_id", name=op.f("pk_qadzd_ticket_history")),
        comment="Zendesk's own events of each ticket, from the ticket event export.",
    )
    op.create_index(
        op.f("qadzd_ticket_history_account_id_ticket_id"),
        "qadzd_ticket_history",
        ["account_id", "ticket_id"],
        unique=False,
    )
    op.create_table(
        "qadzd_ticket_organization",
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("ticket_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("flow_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("organization_id", sa.BigInteger(), nullable=False),
        sa.Column("intent_state", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("job_id", sa.String(), server_default="", nullable=False),
        sa.Column("outcome", sa.String(), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("sent_epoch", sa.Double(), nullable=True),
        sa.Column("run", sa.String(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("account_id", "ticket_id", name=op.f("pk_qadzd_ticket_organization")),
        comment="The setting of a ticket's missing organization in Zendesk: planned, sent (its job once known), done.",
    )
    op.create_index(
        "qadzd_ticket_organization_open",
        "qadzd_ticket_organization",
        ["account_id"],
        unique=False,
        sqlite_where=sa.text("intent_state='sent'"),
        postgresql_where=sa.text("intent_state='sent'"),
    )
    op.create_table(
        "qadzd_tombstone",
        sa.Column(
            "mark",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("forgotten_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("mark", name=op.f("pk_qadzd_tombstone")),
        comment="Who was forgotten, as HMACs over key, email and ids: whatever bears one of these is not stored again.",
    )
    op.create_table(
        "qadzd_wanted",
        sa.Column("flow_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column(
            "kind",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column(
            "record_key",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("external_folded", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("made_from", sa.String(), nullable=False),
        sa.Column("name_folded", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column(
            "email_folded",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            server_default="",
            nullable=False,
        ),
        sa.Column("email_rank", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("owners", sa.JSON(), nullable=False),
        sa.Column("aside", sa.String(), server_default="", nullable=False),
        sa.Column("ended", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("last_outcome", sa.String(), server_default="", nullable=False),
        sa.Column("last_detail", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("flow_id", "kind", "record_key", name=op.f("pk_qadzd_wanted")),
        comment="How each record should look in Zendesk, as mapped fields; `last_outcome`: what became of it.",
    )
    op.create_index(
        op.f("qadzd_wanted_flow_id_kind_email_folded_email_rank_record_key"),
        "qadzd_wanted",
        ["flow_id", "kind", "email_folded", "email_rank", "record_key"],
        unique=False,
    )
    op.create_index(
        op.f("qadzd_wanted_flow_id_kind_external_folded_record_key"),
        "qadzd_wanted",
        ["flow_id", "kind", "external_folded", "record_key"],
        unique=False,
    )
    op.create_index(
        op.f("qadzd_wanted_flow_id_kind_name_folded_record_key"),
        "qadzd_wanted",
        ["flow_id", "kind", "name_folded", "record_key"],
        unique=False,
    )
    # New, open, pending and on hold are open; solved and closed are solved; deleted ones count for nothing.
    op.execute(
        """
        CREATE VIEW qadzd_customer_tickets AS
        SELECT flow.flow_name, ticket.customer_key,
               count(*) FILTER (WHERE ticket.status NOT IN ('solved', 'closed')) AS open_tickets,
               count(*) FILTER (WHERE ticket.status IN ('solved', 'closed')) AS solved_tickets,
               max(ticket.updated_at) AS last_activity_at
        FROM qadzd_ticket AS ticket JOIN qadzd_flow AS flow ON flow.flow_id = ticket.flow_id
        WHERE ticket.customer_key IS NOT NULL AND NOT ticket.gone
        GROUP BY flow.flow_name, ticket.customer_key
        """
    )
