"""Getting a Zendesk account ready, once and again, and undoing it.

In order: may we do all this; our fields; the webhook (or webhook and triggers) with its secret in the vault; where the
exports start; and a delivery that Zendesk sends for a test, until it is found in the ledger. Each step looks first and
makes or mends only what is not as it should be, so a second run changes nothing. What only a person can do is told.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from airflow_provider_qadzd.errors import FixFirst, QadzdError
from airflow_provider_qadzd.ledger import Ledger, exports, health, identity, tickets
from airflow_provider_qadzd.ledger.identity import Account
from airflow_provider_qadzd.ledger.vault import SIGNING, Secrets
from airflow_provider_qadzd.records import Kind, fold
from airflow_provider_qadzd.sync import webhooks
from airflow_provider_qadzd.sync.export import EVENTS, TICKETS
from airflow_provider_qadzd.sync.fields import KINDS, OURS, fields_there
from airflow_provider_qadzd.sync.scopes import needed_scopes, require_access
from airflow_provider_qadzd.sync.webhooks import Route
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import Row

_DAY = 86_400
FIELD_TYPE = "text"
_TRIES, _BETWEEN, _ARRIVES_WITHIN = 3, 3.0, 15.0
"""A test delivery: how often, with how many seconds in between, and how long until it must be in the ledger.

A receiver takes up to two seconds to hear of a new secret."""

Did = Literal["made", "repaired", "kept", "removed", "tested"]


@dataclass(frozen=True, slots=True)
class Choices:
    """What is asked at onboarding. None leaves a setting as it is: a first time, events, and tickets left alone.

    `public_url` is where Zendesk reaches the receiver. `scoped` is false for an API token, which has no scopes.
    """

    public_url: str
    route: Route | None = None
    set_ticket_organization: bool | None = None
    test_delivery: bool = True
    scoped: bool = True


@dataclass
class Onboarded:
    """What was done, in order, as (what was done, to what), and what an admin must still do.

    Each step is told when it is done, so that a run that fails later has said what it did.
    """

    tell: Callable[[str], None] = field(repr=False)
    endpoint: str = ""
    webhook_id: str = ""
    route: Route = "events"
    steps: list[tuple[Did, str]] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)

    def did_now(self, what: Did, thing: str) -> None:
        """A step is done."""
        self.steps.append((what, thing))
        self.tell(f"{what:<9} {thing}")

    def did(self, what: Did) -> list[str]:
        """The things that this was done to."""
        return [thing for done, thing in self.steps if done == what]

    def summary(self) -> str:
        """One line."""
        counts = [f"{len(self.did(what))} {what}" for what in ("made", "repaired", "removed") if self.did(what)]
        delivers = f" Zendesk delivers to {self.endpoint}." if self.endpoint else ""
        return f"{', '.join(counts) or 'Nothing to do'}; {len(self.did('kept'))} as they were.{delivers}"

    def tell_the_end(self) -> None:
        """The counts, and what is left for a person."""
        left = ["An admin must still:", *(f"  - {one}" for one in self.todo)] if self.todo else []
        self.tell("\n".join(["", self.summary(), *left]))


def _nobody(_told: str) -> None:
    pass


def onboard(
    ledger: Ledger, account: Account, client: ZendeskClient, secrets: Secrets, choices: Choices,
    tell: Callable[[str], None] = _nobody,
) -> Onboarded:  # fmt: skip
    """Make what is missing, mend what can be mended. `secrets` are sealed for the receiver; `tell` hears each step.

    FixFirst, with everything made, if Zendesk's test delivery does not arrive.
    """
    account = identity.account_at(ledger, account.base_url)  # as it is now
    set_organization = choices.set_ticket_organization
    if set_organization is None:
        set_organization = account.set_ticket_organization
    require_access(client, needed_scopes(set_organization), ledger.clock.time(), scoped=choices.scoped)
    done = Onboarded(tell, webhooks.endpoint_of(account, choices.public_url))
    _ensure_fields(client, done)
    _ensure_webhook(ledger, account, client, secrets, choices, done)
    if set_organization != account.set_ticket_organization:
        identity.note_ticket_organization(ledger, account.account_id, set_organization)
        done.did_now("made", f"setting: organizations are {'' if set_organization else 'not '}set on tickets")
    midnight = ledger.clock.time() // _DAY * _DAY
    for leg in (TICKETS, EVENTS):
        exports.start_once(ledger, account.account_id, leg, exports.start_position(midnight))
    _see_what_is_left(client, done, set_organization)
    done.tell_the_end()
    if choices.test_delivery:
        _test_delivery(ledger, account.account_id, client, done)
    return done


def remove(
    ledger: Ledger, account: Account, client: ZendeskClient, secrets: Secrets, public_url: str = "",
    tell: Callable[[str], None] = _nobody, *, fields: bool = False,
) -> Onboarded:  # fmt: skip
    """Undo it: our triggers, webhook and its secret go; with `fields` our fields, and their values with them.

    The exports keep their place, so that nothing is missing should the account be onboarded again.
    """
    account, done = identity.account_at(ledger, account.base_url), Onboarded(tell)
    listed = client.webhooks.list()
    ours = webhooks.our_webhook(listed, account, public_url)
    gone = {str(ours["id"])} if ours else set()
    if ours:
        gone.update(webhooks.abandoned_webhooks(listed, str(ours["id"]), str(ours.get("endpoint"))))
    _remove_triggers(client, _foreign(listed, gone), done)
    _remove_webhooks(client, secrets, gone, "", done)
    identity.note_removal(ledger, account.account_id)
    for kind in KINDS if fields else ():
        there = fields_there(client, kind)
        for key in [key for key in OURS[kind] if key in there]:
            _delete_field(client, kind, there[key])
            done.did_now("removed", f"{kind} field {key}")
    done.todo.append("Pause the flow's DAGs: the exports keep their place, and would go on.")
    if not fields:
        done.todo.append("Delete the fields that begin with qad_ in Admin Center, if nobody needs their values.")
    done.tell_the_end()
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


# -- fields ------------------------------------------------------------------------------------------------------------


def _ensure_fields(client: ZendeskClient, done: Onboarded) -> None:
    """Each of our fields is there and active. One of another type stays: Zendesk changes no type, and it has values."""
    for kind in KINDS:
        there = fields_there(client, kind)
        for key, title in OURS[kind].items():
            name, found = f"{kind} field {key}", there.get(key)
            if found is None:
                _create_field(client, kind, {"key": key, "title": title, "type": FIELD_TYPE})
                done.did_now("made", name)
            elif found.get("type") != FIELD_TYPE:
                done.todo.append(
                    f"Delete the {name} in Admin Center and run this again: it is of type {found.get('type')}, "
                    f"must be {FIELD_TYPE}, and Zendesk changes no field's type."
                )
            elif not found.get("active"):
                _update_field(client, kind, int(found["id"]), {"active": True})
                done.did_now("repaired", f"{name}: switched on again")
            else:
                done.did_now("kept", name)


def _create_field(client: ZendeskClient, kind: Kind, body: dict[str, str]) -> None:
    create = client.fields.create_organization_field if kind == "organization" else client.fields.create_user_field
    create(body)


def _update_field(client: ZendeskClient, kind: Kind, field_id: int, body: dict[str, bool]) -> None:
    update = client.fields.update_organization_field if kind == "organization" else client.fields.update_user_field
    update(field_id, body)


def _delete_field(client: ZendeskClient, kind: Kind, found: Row) -> None:
    delete = client.fields.delete_organization_field if kind == "organization" else client.fields.delete_user_field
    delete(int(found["id"]))


# -- webhook and triggers ----------------------------------------------------------------------------------------------


def _ensure_webhook(
    ledger: Ledger, account: Account, client: ZendeskClient, secrets: Secrets, choices: Choices, done: Onboarded
) -> None:
    listed = client.webhooks.list()
    found = webhooks.our_webhook(listed, account, choices.public_url)
    done.route = choices.route or webhooks.route_of(found) or "events"
    told = f"webhook {webhooks.WEBHOOK_NAME!r}, {_ROUTES[done.route]}"
    stale = set[str]()
    if found is not None and webhooks.subscribes(found, done.route):
        used, changes = found, webhooks.unlike(found, done.endpoint)
        step: tuple[Did, str] = ("repaired", f"{told}: {', '.join(sorted(changes))}") if changes else ("kept", told)
    else:
        # Switched off until its secret is in the vault: what is refused for want of it is not delivered again.
        used = client.webhooks.create({**webhooks.wanted_webhook(done.endpoint, done.route), "status": "inactive"})
        changes = webhooks.unlike(used, done.endpoint)
        step = ("made", told) if found is None else ("repaired", f"{told}: made anew")
        stale = set() if found is None else {str(found["id"])}
    done.webhook_id = str(used["id"])
    # https://developer.zendesk.com/api-reference/webhooks/webhooks-api/webhooks/#show-webhook-signing-secret
    secrets.put(f"{SIGNING}{done.webhook_id}", client.webhooks.signing_secret(done.webhook_id))
    identity.note_onboarding(ledger, account.account_id, done.webhook_id)
    if changes:
        client.webhooks.update(done.webhook_id, changes)
    done.did_now(*step)
    stale.update(webhooks.abandoned_webhooks(listed, done.webhook_id, done.endpoint))
    foreign = _foreign(listed, {*stale, done.webhook_id})
    if done.route == "triggers":
        ours = webhooks.our_triggers(client.triggers.list(), foreign)
        for title, became in webhooks.ensure_triggers(client, ours, done.webhook_id).items():
            done.did_now(became, f"trigger {title!r}")
    else:
        _remove_triggers(client, foreign, done)
    _remove_webhooks(client, secrets, stale, done.webhook_id, done)
    done.todo += [
        f"Look at the other webhook of this name, which delivers to {row.get('endpoint')}: another installation's, or "
        "left over from one; then delete it."
        for row in listed
        if row.get("name") == webhooks.WEBHOOK_NAME and str(row["id"]) in foreign
    ]


_ROUTES: dict[Route, str] = {
    "events": f"subscribed to {len(webhooks.EVENT_TYPES)} ticket events",
    "triggers": "called by three triggers",
}


def _foreign(listed: list[Row], ours: set[str]) -> set[str]:
    return {str(row["id"]) for row in listed} - ours


def _remove_triggers(client: ZendeskClient, foreign: set[str], done: Onboarded) -> None:
    for trigger in webhooks.our_triggers(client.triggers.list(), foreign):
        client.triggers.delete(int(trigger["id"]))
        done.did_now("removed", f"trigger {trigger['title']!r}")


def _remove_webhooks(client: ZendeskClient, secrets: Secrets, gone: set[str], used: str, done: Onboarded) -> None:
    """Delete webhooks, and drop every signing secret but that of the one in use: none may open the door any more."""
    for webhook_id in sorted(gone):
        client.webhooks.delete(webhook_id)
        done.did_now("removed", f"webhook {webhook_id}")
    for name in secrets.names(SIGNING):
        if name != f"{SIGNING}{used}":
            secrets.forget(name)
            done.did_now("removed", f"signing secret of webhook {name.removeprefix(SIGNING)}")


# -- a delivery for a test ---------------------------------------------------------------------------------------------


def _test_delivery(ledger: Ledger, account_id: int, client: ZendeskClient, done: Onboarded) -> None:
    """Let Zendesk deliver something, and wait until it stands in this ledger."""
    clock, began = ledger.clock, ledger.clock.time()
    status, payload_id, newest = 0, "", tickets.newest_delivery(ledger, account_id)
    for attempt in range(_TRIES):
        payload_id = f"qadzd-test-{uuid.uuid4()}"
        answered = client.webhooks.test(done.webhook_id, json.dumps({"id": payload_id, "type": "qadzd:test"}))
        status = int(answered.get("status") or 0)
        if status == 202:
            break
        if attempt < _TRIES - 1:
            clock.sleep(_BETWEEN)
    if status != 202:
        raise FixFirst(
            f"All is made, but Zendesk's test delivery to {done.endpoint} was answered {_WORDS.get(status, status)}.",
            advice="Let Zendesk reach the receiver at that address, with the ledger and the keys of this Airflow; "
            "then run this again. Until then only the export finds ticket changes.",
        )
    until = clock.time() + _ARRIVES_WITHIN
    # Should Zendesk send a sample of its own instead, then whatever has come since is it, and the drain sees to it.
    while not (
        tickets.end_test_delivery(ledger, account_id, payload_id)
        or tickets.newest_delivery(ledger, account_id) > newest
    ):
        if clock.time() > until:
            raise FixFirst(
                f"All is made, but Zendesk's test delivery, answered 202 at {done.endpoint}, is not in this ledger.",
                advice="Another receiver answers there, or it has another ledger: compare QADZD_LEDGER_URL.",
            )
        clock.sleep(0.2)
    done.did_now("tested", f"Zendesk's test delivery arrived within {clock.time() - began:.1f} s")


_WORDS = {
    0: "by nobody",
    401: "401: its signature does not fit",
    404: "404: no receiver is there",
    503: "503: the receiver has no ledger or no key",
    504: "504: too late",
}


# -- what is left for a person -----------------------------------------------------------------------------------------


def _see_what_is_left(client: ZendeskClient, done: Onboarded, set_organization: bool) -> None:
    if not done.endpoint.startswith("https://"):
        done.todo.append("Serve the receiver over https, which Zendesk asks for, and run this again.")
    if done.route == "triggers":
        done.todo.append(
            "Know that triggers tell of no deletion and no merge: those are found by the export, minutes later."
        )
    if set_organization:
        titles = webhooks.wanted_triggers("")
        firing = [
            str(row.get("title"))
            for row in client.triggers.list()
            if row.get("title") not in titles and webhooks.fires_on_organization(row)
        ]
        if firing:
            done.todo.append(
                "Make sure that these triggers may fire when an organization is set on a ticket, since nothing in "
                f"them excludes it: {', '.join(firing)}."
            )
    done.todo.append("Unpause the flow's DAGs, after a dry run of qadzd_sync_accounts.")
