"""Getting a Zendesk account ready, once and again: our fields, webhook, signing secret, the exports' start.

Each step looks first and makes only what is missing, so a second run changes nothing. What a person in Zendesk must
still do is told in the report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_provider_qadzd.errors import QadzdError
from airflow_provider_qadzd.ledger import Ledger, exports, health, identity
from airflow_provider_qadzd.ledger.identity import Account
from airflow_provider_qadzd.ledger.vault import SIGNING, Secrets
from airflow_provider_qadzd.records import fold
from airflow_provider_qadzd.sync.export import EVENTS, TICKETS
from airflow_provider_qadzd.sync.mapping import ORGANIZATION_FIELDS, USER_FIELDS
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import Row

WEBHOOK_NAME = "QAD ticket events"
_DAY = 86_400

# https://developer.zendesk.com/api-reference/webhooks/event-types/ticket-events/
EVENT_TYPES = tuple(
    f"zen:event-type:ticket.{name}"
    for name in (
        "created", "status_changed", "priority_changed", "type_changed", "subject_changed", "tags_changed",
        "custom_field_changed", "agent_assignment_changed", "group_assignment_changed", "requester_changed",
        "organization_changed", "external_id_changed", "merged", "soft_deleted", "permanently_deleted", "undeleted",
    )
)  # fmt: skip
"""The ticket events that the webhook subscribes to: all that move what the ledger keeps. Solved is a status change."""


@dataclass
class Onboarded:
    """What was there, what was made, and the address that Zendesk delivers to."""

    endpoint: str
    webhook_id: str = ""
    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line for the log."""
        made = ", ".join(self.made) or "nothing"
        return f"Made: {made}. Already there: {len(self.kept)} things. Zendesk delivers to {self.endpoint}."


def onboard(ledger: Ledger, account: Account, client: ZendeskClient, secrets: Secrets, public_url: str) -> Onboarded:
    """Make what is missing. `public_url` is where Zendesk reaches the receiver; `secrets` are sealed for it."""
    endpoint = public_url.rstrip("/") + webhook_path(account)
    done = Onboarded(endpoint)
    _ensure_fields(client, done)
    _ensure_webhook(client, endpoint, done)
    # https://developer.zendesk.com/api-reference/webhooks/webhooks-api/webhooks/#show-webhook-signing-secret
    secrets.put(f"{SIGNING}{done.webhook_id}", client.webhooks.signing_secret(done.webhook_id))
    midnight = ledger.clock.time() // _DAY * _DAY
    for leg in (TICKETS, EVENTS):
        exports.start_once(ledger, account.account_id, leg, exports.start_position(midnight))
    identity.note_onboarding(ledger, account.account_id, done.webhook_id)
    return done


# https://support.zendesk.com/hc/en-us/community/posts/4411267444890
def recognised(ledger: Ledger, account: Account, client: ZendeskClient) -> str:
    """By what the account that `client` reaches is known to be this one, in a sentence; empty if it is not.

    A subdomain may be given up and taken by somebody else, and a Zendesk sandbox is replaced under its name. Zendesk
    tells an account's number nowhere but in webhook deliveries and audit logs, so the account is known by what is in
    it: the webhook that onboarding made there, whose id exists once, or else a linked organization with both its id
    and the external id that we gave it.
    """
    if account.webhook_id is not None and _exists(lambda: client.webhooks.show(str(account.webhook_id))):
        return f"It is the account that was onboarded: webhook {account.webhook_id} is there."
    linked = health.linked_organizations(ledger, account.account_id)
    there = client.organizations.show_many(ids=list(linked)) if linked else []
    ours = sum(fold(str(row.get("external_id"))) == linked.get(row["id"]) for row in there)
    return f"It is the known account: {ours} of {len(linked)} linked organizations are there." if ours else ""


def _exists(show: Callable[[], Row]) -> bool:
    try:
        show()
    except QadzdError as error:  # how Zendesk words the 404 of a webhook is not documented
        if error.facts.status != 404:
            raise
        return False
    return True


def webhook_path(account: Account) -> str:
    """Where the receiver takes the account's deliveries, below its public address."""
    return f"/qadzd/webhooks/zendesk/{account.slug}"


def _ensure_fields(client: ZendeskClient, done: Onboarded) -> None:
    fields = client.fields
    kinds = (
        ("organization field", ORGANIZATION_FIELDS, fields.organization_fields, fields.create_organization_field),
        ("user field", USER_FIELDS, fields.user_fields, fields.create_user_field),
    )
    for what, wanted, listed, create in kinds:
        there = {field["key"] for field in listed()}
        for key, title in wanted.items():
            if key in there:
                done.kept.append(f"{what} {key}")
            else:
                create({"key": key, "title": title, "type": "text"})
                done.made.append(f"{what} {key}")


def _ensure_webhook(client: ZendeskClient, endpoint: str, done: Onboarded) -> None:
    # The kind of subscription cannot be changed afterwards; the endpoint and the status can.
    body = {
        "name": WEBHOOK_NAME, "endpoint": endpoint, "http_method": "POST", "request_format": "json",
        "status": "active", "subscriptions": list(EVENT_TYPES),
    }  # fmt: skip
    found = client.webhooks.find(WEBHOOK_NAME)
    if found is None:
        done.webhook_id = str(client.webhooks.create(body)["id"])
        done.made.append("webhook")
        return
    done.webhook_id = str(found["id"])
    if found.get("endpoint") != endpoint or found.get("status") != "active":
        client.webhooks.update(done.webhook_id, body)
        done.made.append("webhook (pointed here again)")
    else:
        done.kept.append("webhook")
