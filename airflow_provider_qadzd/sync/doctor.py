"""The doctor's checks of a Zendesk connection; those of what was set up in the account are in `doctor_setup`.

Nothing is written in Zendesk; in the ledger only what every use of a connection writes: the account's row, its token,
what was learnt of its limits.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.findings import Check, Finding, found_in
from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.identity import Account
from airflow_provider_qadzd.sync.mapping import DEFAULT, FieldMapping
from airflow_provider_qadzd.sync.onboard import WEBHOOK_NAME
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.connection import ZendeskSettings
from airflow_provider_qadzd.zendesk.oauth import missing_scopes
from airflow_provider_qadzd.zendesk.probe import Heard
from airflow_provider_qadzd.zendesk.wire import ADDRESS, MISSING_SCOPE, Row

REACHABLE, CLOCK, CREDENTIALS, ROLE = "Zendesk address", "clock", "credentials", "role"
SCOPES, RATE, BULK, LEDGER, KEYS = "scopes", "rate limit", "bulk import", "ledger", "keys"
MAPPING = "mapping file"

FEW_CALLS = 50
"""Calls a minute below which a first load takes days."""

SKEW = 30.0

# https://developer.zendesk.com/documentation/api-basics/authentication/creating-and-using-oauth-tokens-with-the-api/
_RESOURCES = (
    "tickets", "users", "organizations", "auditlogs", "hc", "apps", "triggers", "automations", "targets", "webhooks",
    "macros", "requests", "satisfaction_ratings", "dynamic_content", "any_channel", "web_widget",
)  # fmt: skip
KNOWN_SCOPES = (
    "read",
    "write",
    "impersonate",
    *(f"{name}:{right}" for name in _RESOURCES for right in ("read", "write")),
)
NEEDED_SCOPES = (
    "users:read", "users:write", "organizations:read", "organizations:write", "tickets:read", "webhooks:read",
    "webhooks:write", "triggers:read", "triggers:write",
)  # fmt: skip
"""What this package uses; `read` and `write` hold them all."""


class Opened(Protocol):
    """A Zendesk connection that was opened, as a hook has it."""

    @property
    def settings(self) -> ZendeskSettings: ...
    @property
    def client(self) -> ZendeskClient: ...
    @property
    def account(self) -> Account: ...
    @property
    def ledger(self) -> Ledger: ...


@dataclass
class Patient:
    """One Zendesk connection under examination. What checks share is asked for once; whatever raises is a finding.

    `knock` asks `users/me`, signed or not; `signing` reads the signing secrets that are kept, by name. `freshness` is
    the webhook's tolerance in seconds; `silent_hours` is how long no delivery may come while tickets change. `mapping`
    reads the mapping in use.
    """

    opened: Opened
    address: Callable[[], str]
    knock: Callable[[bool], Heard]
    signing: Callable[[], Mapping[str, str]] = dict
    receiver_url: str = ""
    freshness: float = 300.0
    silent_hours: float = 6.0
    mapping: Callable[[], FieldMapping] = lambda: DEFAULT

    @cached_property
    def heard(self) -> Heard:
        """What an unsigned call showed."""
        return self.knock(False)

    @cached_property
    def me(self) -> Row:
        """Whom Zendesk takes us for."""
        return self.opened.client.users.me()

    @cached_property
    def webhook(self) -> Row | None:
        """Our webhook, if it is there."""
        return self.opened.client.webhooks.find(WEBHOOK_NAME)


def connection_checks(patient: Patient, needs: tuple[str, ...] = ()) -> list[Check]:
    """What can be told from the connection alone. `needs` are checks that credentials rest on."""
    return [
        Check(REACHABLE, lambda: reachable(patient)),
        Check(CREDENTIALS, lambda: credentials(patient), (*needs, REACHABLE)),
        Check(ROLE, lambda: role(patient), (CREDENTIALS,)),
        Check(SCOPES, lambda: scopes(patient), (CREDENTIALS,)),
    ]


def pace_checks(patient: Patient) -> list[Check]:
    """Time, and how fast the account lets us go."""
    return [
        Check(CLOCK, lambda: clock(patient), (REACHABLE,)),
        Check(RATE, lambda: rate(patient), (CREDENTIALS,)),
        Check(BULK, lambda: bulk(patient), (CREDENTIALS,)),
    ]


def reachable(patient: Patient) -> Finding:
    """Whether name, certificate and address lead to a Zendesk account's own API."""
    address = patient.address()
    try:
        _ = patient.heard
    except TryLater as error:
        return Finding(REACHABLE, "fail", error.what, "Check the subdomain, and the way out: DNS, firewall, proxy.")
    except FixFirst as error:
        return Finding(REACHABLE, "fail", error.what, error.advice or ADDRESS)
    return Finding(REACHABLE, "ok", f"Zendesk answers at {address}.")


def clock(patient: Patient) -> Finding:
    """Our clock against Zendesk's: a receiver refuses deliveries that look too old or too new."""
    ahead = patient.heard.ahead
    if ahead is None:
        return Finding(CLOCK, "warn", "Zendesk's answer did not tell the time.")
    told = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} Zendesk's"
    advice = "Let this machine, and the receiver's, take their time from a time server."
    if abs(ahead) > patient.freshness:
        return Finding(CLOCK, "fail", f"This clock is {told}: every webhook delivery is refused as stale.", advice)
    if abs(ahead) > SKEW:
        return Finding(CLOCK, "warn", f"This clock is {told}.", advice)
    return Finding(CLOCK, "ok", f"This clock agrees with Zendesk's to {max(abs(ahead), 1):.0f} s.")


def credentials(patient: Patient) -> Finding:
    """Whether they are somebody's. Zendesk answers 200 with an anonymous user to some that are not."""
    try:
        me = patient.me
    except FixFirst as error:
        seen = found_in(CREDENTIALS, error)
        return Finding(CREDENTIALS, "fail", seen.what, _cure(error, patient.opened.settings) or seen.advice)
    return Finding(CREDENTIALS, "ok", f"Zendesk knows us as {me.get('name')}.")


def _cure(error: FixFirst, settings: ZendeskSettings) -> str:
    """A better advice than the error's own, where the connection's settings explain it."""
    strange = unknown_scopes(settings.scope)
    if strange and (error.facts.status == 403 or error.facts.code == MISSING_SCOPE):
        return f"{_not_a_scope(strange)} Zendesk grants such a name, and then refuses every call: correct `scope`."
    if error.facts.code == "Anonymous" and settings.auth == "api_token":
        return "Check the connection's login (the agent's email) and password (the API token)."
    return ""


def unknown_scopes(scope: str) -> list[str]:
    """The names in `scope` that are not known to be Zendesk's."""
    return [name for name in scope.split() if name not in KNOWN_SCOPES]


def _not_a_scope(strange: Sequence[str]) -> str:
    near = difflib.get_close_matches(strange[0], KNOWN_SCOPES, n=1)
    return f"{strange[0]!r} is not a scope that we know{f'; did you mean {near[0]!r}?' if near else '.'}"


def role(patient: Patient) -> Finding:
    """An admin: nobody else may export, keep webhooks, or write in bulk."""
    given = str(patient.me.get("role"))
    if given == "admin":
        return Finding(ROLE, "ok", "That user is an admin.")
    advice = "Let an admin make the OAuth client (client_credentials), give the consent, or own the API token."
    return Finding(ROLE, "fail", f"That user is no admin but {given!r}: exports and bulk writes are refused.", advice)


def scopes(patient: Patient) -> Finding:
    """What the token may do, against what the connection asks for and what this package uses."""
    settings = patient.opened.settings
    if settings.auth == "api_token":
        told = "An API token has no scopes. Zendesk deactivates all API tokens on 2027-04-30."
        return Finding(SCOPES, "warn", told, "Register an OAuth client and set auth to client_credentials.")
    granted = {str(name) for name in patient.opened.client.tokens.current().get("scopes") or ()}
    spelt = " ".join(sorted(granted)) or "nothing"
    lacking = [name for name in NEEDED_SCOPES if not granted & {name, name.partition(":")[2]}]
    renew = " Then run `airflow qadzd connect`." if settings.auth == "authorization_code" else ""
    if lacking:
        told = f"The token may {spelt}; it lacks {', '.join(lacking)}."
        return Finding(SCOPES, "fail", told, f"Set `scope` to `read write` in the connection's extra.{renew}")
    if ungranted := missing_scopes(settings.scope, " ".join(granted)):
        told = f"The connection asks for {', '.join(ungranted)}, which the token in use was not given."
        return Finding(SCOPES, "warn", told, f"A token keeps its scope until it lapses; wait for the next one.{renew}")
    if strange := unknown_scopes(settings.scope):
        return Finding(SCOPES, "warn", _not_a_scope(strange), "Leave it out if nobody knows what it is for.")
    if not {"read", "write"} <= granted:
        return _narrow(patient, spelt)
    return Finding(SCOPES, "ok", f"The token may {spelt}.")


def _narrow(patient: Patient, spelt: str) -> Finding:
    """Which narrow scopes cover exports and jobs is not documented, so both are asked for once."""
    client = patient.opened.client
    try:
        client.jobs.list_open()
        client.exports.users(start_time=patient.opened.ledger.clock.time() - 120)
    except FixFirst as error:
        if error.facts.status != 403:
            raise
        told = f"The token may {spelt}, but not {error.facts.path}."
        return Finding(SCOPES, "fail", told, "Set `scope` to `read write` in the connection's extra.")
    return Finding(SCOPES, "ok", f"The token may {spelt}; exports and jobs can be read with that.")


def rate(patient: Patient) -> Finding:
    """The plan's calls a minute, as an answer tells them, and our share."""
    limit = patient.knock(True).limit
    share = patient.opened.settings.rate_share
    if limit is None:
        return Finding(RATE, "warn", "Zendesk's answer did not tell the plan's limit.", "Run the doctor again later.")
    ours = max(1, int(limit * share))
    told = f"The plan allows {limit} calls a minute; our share of {share:g} is {ours}."
    if ours < FEW_CALLS:
        advice = "Raise rate_share, take a larger plan, or expect first loads to take long."
        return Finding(RATE, "warn", told, advice)
    return Finding(RATE, "ok", told)


def bulk(patient: Patient) -> Finding:
    """Whether users can be made in bulk. Nothing tells without making some, so `auto` stays open until then."""
    set_to = patient.opened.settings.bulk_import
    told = {
        "on": "Set to on: a first load stops if the account does not permit it.",
        "off": "Set to off: users are made one by one.",
        "auto": "Unknown until users are first made in bulk; if Zendesk refuses, they are made one by one.",
    }
    return Finding(BULK, "ok", told[set_to])
