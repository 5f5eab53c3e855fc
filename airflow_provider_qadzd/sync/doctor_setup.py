"""The doctor's checks of what was set up: the account the ledger knows, our fields, the webhook and its secret.

As everywhere in the doctor nothing is written in Zendesk, and no secret is in a finding.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from airflow_provider_qadzd.findings import Check, Finding
from airflow_provider_qadzd.ledger import health
from airflow_provider_qadzd.ledger.store import epoch_of, iso
from airflow_provider_qadzd.ledger.vault import SIGNING, SealedRow
from airflow_provider_qadzd.records import Kind
from airflow_provider_qadzd.sync.doctor import CREDENTIALS, KEYS, LEDGER, MAPPING, ROLE, SCOPES, Patient
from airflow_provider_qadzd.sync.fields import KINDS, OURS, fields_there
from airflow_provider_qadzd.sync.onboard import EVENT_TYPES, WEBHOOK_NAME, recognised, webhook_path
from airflow_provider_qadzd.zendesk.connection import LOOPBACK
from airflow_provider_qadzd.zendesk.wire import Row

SEALED, SAME, FIELDS, RECEIVER = "sealed secrets", "same account", "our fields", "receiver address"
WEBHOOK, SECRET, TRIGGERS, SILENCE = "webhook", "signing secret", "triggers", "deliveries"
CONDITIONAL = "conditional_ticket_events"
ONBOARD = "Run the flow's DAG qadzd_onboard."
_FIELD_TYPE = "text"


def setup_checks(patient: Patient) -> list[Check]:
    """What onboarding made, and whether it is at work."""
    trusted = (CREDENTIALS, ROLE, SCOPES)
    return [
        Check(SAME, lambda: same_account(patient), (LEDGER, *trusted)),
        Check(FIELDS, lambda: mapped_fields(patient), (*trusted, SAME, MAPPING)),
        Check(RECEIVER, lambda: receiver_address(patient.receiver_url)),
        Check(WEBHOOK, lambda: webhook(patient), (*trusted, SAME)),
        Check(SECRET, lambda: signing_secret(patient), (KEYS, WEBHOOK)),
        Check(TRIGGERS, lambda: triggers(patient), (WEBHOOK,)),
        Check(SILENCE, lambda: deliveries(patient), (LEDGER, WEBHOOK, SECRET)),
    ]


def sealed_secrets(kept: Sequence[SealedRow]) -> Finding:
    """Whether the keys given open every token and signing secret that is kept."""
    lost = [row for row in kept if row.opened_by == "none"]
    old = [row for row in kept if row.opened_by == "older"]
    if lost:
        ids = ", ".join(sorted({row.key_id for row in lost}))
        told = f"No key given opens {_named(lost)}, sealed with key {ids}."
        again = f"{ONBOARD[:-1]} for signing secrets, and let tokens be asked for again."
        advice = (
            f"Add that key after the current one in QADZD_VAULT_KEYS or QADZD_RECEIVER_KEYS; if it is lost, {again}"
        )
        return Finding(SEALED, "fail", told, advice)
    if old:
        told = f"Only an older key opens {_named(old)}."
        return Finding(SEALED, "warn", told, "Run `airflow qadzd rotate-keys`, then the older key can go.")
    return Finding(SEALED, "ok", f"The newest key opens all {len(kept)} of them.")


def _named(rows: Iterable[SealedRow]) -> str:
    return ", ".join(f"{row.name} of {row.holder}" for row in rows)


def same_account(patient: Patient) -> Finding:
    """Whether what answers is the account that the ledger has worked with."""
    account, ledger = patient.opened.account, patient.opened.ledger
    if account.webhook_id is None and not health.linked_organizations(ledger, account.account_id, 1):
        return Finding(SAME, "ok", "Nothing was set up there yet, so there is nothing to compare.")
    known_by = recognised(ledger, account, patient.opened.client)
    if known_by:
        return Finding(SAME, "ok", known_by)
    told = "Neither the webhook of the onboarding nor any linked organization is there: this may be another account."
    advice = "Check the subdomain. For a new account use a new flow; only if everything was deleted by hand, onboard."
    return Finding(SAME, "fail", told, advice)


def mapped_fields(patient: Patient) -> Finding:
    """Zendesk drops a value for a field that is missing in silence, so each that the mapping writes must be there.

    It must be active, and one that onboarding makes of the type that it makes.
    """
    mapping, client = patient.mapping(), patient.opened.client
    troubles = [
        trouble
        for kind in KINDS
        for trouble in _field_troubles(kind, mapping.custom_fields(kind), fields_there(client, kind))
    ]
    if not troubles:
        total = sum(len(mapping.custom_fields(kind)) for kind in KINDS)
        return Finding(FIELDS, "ok", f"All {total} are there and active.")
    advice = (
        f"{ONBOARD} It makes the default ones; another one, and an inactive or mistyped one, is for Zendesk's Admin "
        "Center."
    )
    return Finding(FIELDS, "fail", f"Not usable: {', '.join(troubles)}.", advice)


def _field_troubles(kind: Kind, wanted: Iterable[str], there: Mapping[str, Row]) -> list[str]:
    troubles = []
    for key in wanted:
        field = there.get(key)
        if field is None:
            troubles.append(f"{kind} field {key} is missing")
        elif key in OURS[kind] and field.get("type") != _FIELD_TYPE:
            troubles.append(f"{kind} field {key} is of type {field.get('type')} instead of {_FIELD_TYPE}")
        elif not field.get("active"):
            troubles.append(f"{kind} field {key} is inactive")
    return troubles


def receiver_address(url: str) -> Finding:
    """Where Zendesk delivers to, as far as its spelling tells. Nothing is called."""
    parts = urlsplit(url)
    if not url:
        told, advice = "[qadzd] receiver_url is not set.", "Set it to where Zendesk reaches the receiver, over https."
        return Finding(RECEIVER, "fail", told, advice)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return Finding(
            RECEIVER, "fail", "[qadzd] receiver_url is not an address.", "Write https://HOST, without /qadzd."
        )
    if parts.path.rstrip("/").endswith("/qadzd"):
        return Finding(RECEIVER, "fail", "[qadzd] receiver_url ends with /qadzd, which is added.", "Leave that out.")
    if parts.hostname in LOOPBACK:
        return Finding(RECEIVER, "warn", f"{url} is this machine: only a simulation here can reach it.")
    if parts.scheme != "https":
        return Finding(RECEIVER, "fail", f"{url} is plain http.", "Deliveries hold ticket data: serve https.")
    return Finding(RECEIVER, "ok", f"Zendesk delivers to {url}; whether it gets there, `deliveries` tells.")


def webhook(patient: Patient) -> Finding:
    """Ours, active, pointing here, for our events."""
    found, account = patient.webhook, patient.opened.account
    if found is None:
        return Finding(WEBHOOK, "fail", f"There is no webhook {WEBHOOK_NAME!r} in Zendesk.", ONBOARD)
    path, points_to = webhook_path(account), str(found.get("endpoint"))
    wanted = patient.receiver_url.rstrip("/") + path
    if found.get("status") != "active":
        return Finding(WEBHOOK, "fail", f"The webhook is {found.get('status')}.", ONBOARD)
    if points_to != wanted if patient.receiver_url else not points_to.endswith(path):
        told = f"The webhook points to {points_to} and not to {wanted}."
        return Finding(WEBHOOK, "fail", told, f"{ONBOARD} Or correct [qadzd] receiver_url.")
    if str(found["id"]) != account.webhook_id:
        return Finding(WEBHOOK, "fail", "The webhook is not the one that the ledger knows.", ONBOARD)
    return _subscribed(found)


def _subscribed(found: Row) -> Finding:
    given = found.get("subscriptions") or []
    if CONDITIONAL in given:
        return Finding(WEBHOOK, "ok", "It is there and active, points here, and is driven by triggers.")
    lacking = [name.rpartition(".")[2] for name in EVENT_TYPES if name not in given]
    if lacking:
        told = f"The webhook is not told of: {', '.join(lacking)}. Only the export finds those."
        return Finding(WEBHOOK, "warn", told, f"Delete it in Zendesk's Admin Center. {ONBOARD}")
    return Finding(WEBHOOK, "ok", f"It is there and active, points here, and tells {len(EVENT_TYPES)} kinds of event.")


def signing_secret(patient: Patient) -> Finding:
    """Whether the secret that the receiver checks with is the one that Zendesk signs with."""
    webhook_id = str((patient.webhook or {}).get("id"))
    kept = patient.signing().get(f"{SIGNING}{webhook_id}")
    if kept is None:
        return Finding(SECRET, "fail", "The webhook's secret is not in the vault: every delivery is refused.", ONBOARD)
    signs_with = patient.opened.client.webhooks.signing_secret(webhook_id)
    if not hmac.compare_digest(kept.encode(), signs_with.encode()):
        told = "Zendesk signs with another secret than the one in the vault: every delivery is refused."
        return Finding(SECRET, "fail", told, ONBOARD)
    return Finding(SECRET, "ok", "The vault has the one that Zendesk signs with.")


def triggers(patient: Patient) -> Finding:
    """Which only a webhook needs that does not subscribe to events."""
    if CONDITIONAL in ((patient.webhook or {}).get("subscriptions") or []):
        told = "skipped because the triggers that drive this webhook were not made by this package"
        return Finding(TRIGGERS, "skipped", told)
    return Finding(TRIGGERS, "ok", "None are needed: the webhook subscribes to events.")


def deliveries(patient: Patient) -> Finding:
    """Whether webhooks fell silent: none came for hours while the export found changes that they should have told."""
    ledger, account = patient.opened.ledger, patient.opened.account
    newest = health.newest_delivery(ledger, account.account_id)
    since = newest if newest is not None else epoch_of(account.onboarded_at or ledger.now())
    silent = ledger.clock.time() - since
    last = "No delivery ever came" if newest is None else f"The last delivery came at {iso(newest)}"
    missed = health.found_by_export_since(ledger, account.account_id, since)
    if silent > patient.silent_hours * 3600 and missed:
        told = f"{last}, and since then the export found {missed} changed tickets by itself."
        advice = "Look at the webhook's activity in Zendesk's Admin Center, and at the receiver's log."
        return Finding(SILENCE, "warn", told, advice)
    return Finding(SILENCE, "ok", f"{last}; {missed} changes since then were found by the export.")
