"""What Airflow discovers: connection types with their form fields, `[qadzd]` options, and the CLI.

Read without importing a hook, by every Airflow process; so it imports nothing.
"""

from __future__ import annotations

from typing import Any

PACKAGE = "airflow-provider-qadzd"


def get_provider_info() -> dict[str, Any]:
    """The provider's information in Airflow's schema."""
    return {
        "package-name": PACKAGE,
        "name": "QAD to Zendesk",
        "description": "Keeps QAD accounts aligned into Zendesk, and ties Zendesk tickets to QAD customers.",
        "connection-types": [_qad(), _qxtend(), _zendesk()],
        "hooks": _modules("QAD", "hooks.qad") + _modules("Zendesk Support", "hooks.zendesk"),
        "operators": _modules(
            "QAD to Zendesk", "operators.accounts", "operators.tickets", "operators.onboard", "operators.audit"
        ),
        "sensors": _modules("Zendesk Support", "sensors.zendesk"),
        "triggers": _modules("Zendesk Support", "triggers.zendesk", "triggers.zendesk_jobs"),
        "extra-links": [f"airflow_provider_qadzd.operators.links.{name}Link" for name in ("Zendesk", "Qad", "Plan")],
        "config": {"qadzd": {"description": "QAD to Zendesk sync.", "options": _options()}},
        "cli": ["airflow_provider_qadzd.cli.get_commands"],
    }


def _modules(integration: str, *modules: str) -> list[dict[str, Any]]:
    paths = [f"airflow_provider_qadzd.{module}" for module in modules]
    return [{"integration-name": integration, "python-modules": paths}]


def _qad() -> dict[str, Any]:
    return {
        "connection-type": "qad",
        "hook-class-name": "airflow_provider_qadzd.hooks.qad.QadHook",
        "hook-name": "QAD Adaptive ERP",
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "port"],
            "relabeling": {"host": "Base URL", "login": "QAD user", "password": "QAD password"},
            "placeholders": {"host": "https://tenant.adaptive.qad.com/clouderp"},
        },
        "conn-fields": {
            "client_id": _text("Client ID", "From QAD's page Client IDs."),
            "auth": _text("Authentication", "How to sign in.", enum=["oauth_password", "basic", "bearer", "cookie"]),
            "workspaces": _text("Workspaces", "Comma-separated <domain>_<entity>; empty for the user's default."),
            "customers_browse": _text("Customers browse", "Browse id; empty for customerV2s."),
            "contacts_browse": _text("Contacts browse", "Browse id; empty for cm803."),
            "customer_url": _text("Customer page", "Address of a customer's page; {base_url} and {code} are filled."),
            "orders_url": _text("Orders page", "The same for a customer's orders."),
            "billing_url": _text("Billing page", "The same for a customer's invoices."),
        },
    }


def _qxtend() -> dict[str, Any]:
    return {
        "connection-type": "qad_qxtend",
        "hook-class-name": "airflow_provider_qadzd.hooks.qad.QxtendHook",
        "hook-name": "QAD Enterprise Edition (QXtend)",
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "port"],
            "relabeling": {"host": "Service address", "login": "QAD user", "password": "QAD password"},
            "placeholders": {"host": "https://qad.example.com:8443/qxi/services/QdocWebService"},
        },
        "conn-fields": {
            "profile": _text(
                "Profile", "What to start from.", enum=["query_qdoc", "openedge", "query_service"],
            ),
            "receiver": _text("Receiver", "As QXtend knows it, in its case; empty for an OpenEdge service."),
            "domains": _text("Domains", "Comma-separated; empty for the receiver's own."),
            "auth": _text(
                "Authentication", "Where to sign in.", enum=["basic", "session", "both", "session_id", "none"]
            ),
            "operation": _text("Operation", "The site's query; empty for the profile's."),
            "row_element": _text("Row element", "A customer in the answer; empty for the profile's."),
            "contact_element": _text("Contact element", "A contact in the answer; empty for the profile's."),
            "paging": _text("Paging", "How further pages are asked for.", enum=["none", "last_key", "page"]),
            "warnings": _text("Warnings", "What a warning means.", enum=["incomplete", "accept", "refuse"]),
            "customer_url": _text("Customer page", "Address of a customer's page; {base_url} and {code} are filled."),
            "orders_url": _text("Orders page", "The same for a customer's orders."),
            "billing_url": _text("Billing page", "The same for a customer's invoices."),
        },
    }  # fmt: skip


def _zendesk() -> dict[str, Any]:
    return {
        "connection-type": "zendesk_support",
        "hook-class-name": "airflow_provider_qadzd.hooks.zendesk.ZendeskHook",
        "hook-name": "Zendesk Support (QAD sync)",
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "port"],
            "relabeling": {"host": "Subdomain", "login": "OAuth client identifier", "password": "OAuth client secret"},
            "placeholders": {"host": "acme"},
        },
        "conn-fields": {
            "auth": _text(
                "Authentication", "client_credentials for unattended use; api_token ends on 2027-04-30.",
                enum=["client_credentials", "authorization_code", "api_token"],
            ),
            "scope": _text("Scope", "Space-separated; empty for `read write`."),
            "redirect_uri": _text("Redirect URI", "For authorization_code; empty for Airflow's own Connect page."),
            "bulk_import": _text("Bulk user import", "auto finds out.", enum=["auto", "on", "off"]),
        },
    }  # fmt: skip


def _text(label: str, description: str, enum: list[str] | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": ["string", "null"]}
    if enum:
        schema["enum"] = [*enum, None]
    return {"label": label, "description": description, "schema": schema}


def _options() -> dict[str, Any]:
    return {
        "flows": _option(
            "Which QAD connection feeds which Zendesk connection: a JSON list of objects with name, qad, zendesk and "
            "the external-id templates organization and user.",
            '[{{"name": "default", "qad": "qad_default", "zendesk": "zendesk_default"}}]',
        ),
        "mode": _option(
            "What scheduled runs of the accounts do: apply, approve (plan, and wait for a review) or dry_run.", "apply"
        ),
        "mapping_path": _option(
            "A YAML file that says which Zendesk field is made from what in QAD, and whose it is; empty for the "
            "default mapping. Read by tasks, never while DAGs are parsed.",
            "",
        ),
        "accounts_schedule": _option("When accounts are synced (cron).", "*/5 * * * *"),
        "export_schedule": _option("When the live ticket export runs (cron).", "*/10 * * * *"),
        "history_schedule": _option(
            "The windows of the ticket history export: @daily, @weekly, or a cron expression.", "0 0 * * *"
        ),
        "history_files": _option(
            "A folder (file:///data/tickets, s3://aws_default@bucket/tickets) for each window's rows; empty for none.",
            "",
        ),
        "history_format": _option("How those files are written: jsonl or parquet.", "jsonl"),
        "reconcile_schedule": _option("When Zendesk is looked through for what was done by hand (cron).", "15 1 * * *"),
        "receiver_url": _option("Where Zendesk reaches the webhook receiver, without /qadzd.", ""),
        "settle_seconds": _option("How long before now the live export stops reading.", "120"),
        "freshness_seconds": _option("How old or new a webhook's timestamp may be.", "300"),
        "full_read_schedule": _option("When all of QAD is read, where deltas are possible (cron).", "0 2 * * *"),
        "absence_reads": _option("From how many complete full reads a QAD record must be missing to be gone.", "3"),
        "absence_hours": _option("Over how many hours those reads must lie.", "48"),
        "brake_share": _option("Which share of linked records one plan may update.", "0.3"),
        "brake_floor": _option("How many updates a plan may always have.", "50"),
        "maintain_schedule": _option("When the ledger lets go of what is old (cron).", "30 3 * * *"),
        "keep_inbox_days": _option("How long webhook deliveries that were drained or set aside are kept.", "30"),
        "keep_audit_days": _option("How long the audit is kept; the first and last entry of a link stay.", "400"),
        "keep_changes_days": _option("How long changes that are over are kept, with their plans.", "90"),
        "brake_deactivations_share": _option("Which share one plan may deactivate, and a read may shrink by.", "0.1"),
        "brake_deactivations_floor": _option("How many deactivations a plan may always have.", "20"),
        "brake_removals_share": _option("Which share of the memberships we added one plan may remove.", "0.1"),
        "brake_removals_floor": _option("How many removals a plan may always have.", "20"),
        **_policies(),
        "wait_in_place_seconds": _option("How long apply waits for jobs before it defers.", "15"),
    }


def _policies() -> dict[str, Any]:
    """The settings of the collision table, as `sync.policies` has them."""
    return {
        "name_unkeyed": _option("An organization that nobody keyed has the name: adopt, set_aside, suffix.", "adopt"),
        "name_linked": _option("A linked or keyed organization has the name: suffix, set_aside.", "suffix"),
        "email_unkeyed": _option("An end user whom nobody keyed has the email: adopt, set_aside.", "adopt"),
        "email_shared": _option("Several contacts have one email: share, without_email.", "share"),
        "email_missing": _option("A contact has no usable email: create, set_aside.", "create"),
        "email_changed": _option("A contact has another email now: add, make_primary.", "add"),
        "contact_moved": _option("The membership of a customer that a contact left: remove, keep.", "remove"),
        "contact_ended": _option("QAD has the contact no more: tag, ignore.", "tag"),
        "customer_inactive": _option("The customer is inactive or gone: tag, ignore.", "tag"),
        "organization_deleted": _option("Deleted by hand in Zendesk: recreate, set_aside.", "recreate"),
        "user_deleted": _option("Deleted by hand in Zendesk: set_aside, recreate.", "set_aside"),
    }


def _option(description: str, default: str) -> dict[str, Any]:
    return {
        "description": description, "version_added": "0.1.0", "type": "string", "example": None, "default": default,
    }  # fmt: skip
