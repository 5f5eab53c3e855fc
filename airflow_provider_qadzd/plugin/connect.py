"""Connecting a Zendesk account and taking it back, the same for the page and for a terminal; and how things stand.

Consent is asked for with PKCE and a state; Zendesk sends the browser back with a code, which is worth nothing without
the verifier that stayed here. Nothing of this module is bound to a web request.
"""

from __future__ import annotations

import contextlib
import getpass
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import requests

from airflow_provider_qadzd.errors import FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
from airflow_provider_qadzd.ledger.consents import Consents, Pending
from airflow_provider_qadzd.ledger.store import iso
from airflow_provider_qadzd.records import Token
from airflow_provider_qadzd.zendesk.connection import LOOPBACK
from airflow_provider_qadzd.zendesk.oauth import (
    api_token_warning,
    authorization_url,
    missing_scopes,
    new_state,
    new_verifier,
)

ACTS_AS = "acts_as:"
"""Before a token's name: where it is kept as whom the token acts in Zendesk."""

_BY_HAND = "End it in Zendesk: Admin Center, Apps and integrations, APIs, OAuth clients."


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for consent. `verifier` stays on the server; `state` ties the answer to it."""

    url: str
    state: str
    verifier: str = field(repr=False)


def ask(hook: ZendeskHook) -> Asked:
    """A new request. FixFirst if the connection is not set up for consent."""
    if hook.settings.auth != "authorization_code":
        raise FixFirst(
            f"{hook.where} asks nobody for consent: its auth is {hook.settings.auth}.",
            advice="To act as a person of Zendesk, set auth to authorization_code in its extra.",
        )
    client = hook.oauth_client
    where = urlsplit(client.redirect_uri)
    if not where.hostname or not (where.scheme == "https" or (where.scheme == "http" and where.hostname in LOOPBACK)):
        raise FixFirst(
            f"{hook.where}: Zendesk would send the browser back to {client.redirect_uri}, and takes only https there.",
            advice="Set [api] base_url to Airflow's own https address, or redirect_uri in the connection's extra.",
        )
    state, verifier = new_state(), new_verifier()
    return Asked(authorization_url(client, state, verifier), state, verifier)


def ask_for_user(hook: ZendeskHook, consents: Consents, user: str) -> Asked:
    """A new request that only this Airflow user can bring the answer to."""
    asked = ask(hook)
    pending = Pending(user, hook.zendesk_conn_id, hook.account.base_url, hook.oauth_client.client_id, asked.verifier)
    consents.keep(asked.state, pending)
    return asked


@dataclass(frozen=True, slots=True)
class Answer:
    """What Zendesk's redirect brings: the state, and a code or an error."""

    state: str = field(default="", repr=False)
    code: str = field(default="", repr=False)
    error: str = ""


def answer_in(query: str) -> Answer:
    """The answer in the query of the address at which the browser ended; empty if there is none."""
    try:
        given = parse_qs(query, max_num_fields=20)
    except ValueError:
        return Answer()
    return Answer(*(given.get(name, [""])[0] for name in ("state", "code", "error")))


# https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2.1
def code_in(answer: Answer, where: str) -> str:
    """The code. FixFirst in words for every answer that brings none; the vendor's own text is not repeated."""
    if answer.error == "access_denied":
        advice = "Connect again, sign in to Zendesk as the admin that the sync shall act as, and choose Allow."
        raise FixFirst(f"{where}: consent was denied in Zendesk (access_denied).", advice=advice)
    if answer.error == "invalid_scope":
        advice = "Ask for no more than the OAuth client may have: `scope` in the connection's extra."
        raise FixFirst(f"{where}: Zendesk does not grant this scope (invalid_scope).", advice=advice)
    if answer.error in ("server_error", "temporarily_unavailable"):
        raise FixFirst(f"{where}: Zendesk is busy ({answer.error}).", advice="Connect again in a few minutes.")
    if answer.error or not answer.code:
        known = answer.error if re.fullmatch(r"[a-z_]{1,40}", answer.error) else "no code"
        advice = "Check the OAuth client in Zendesk: its identifier, its redirect URL, its scopes. Then connect again."
        raise FixFirst(f"{where}: Zendesk did not give consent ({known}).", advice=advice)
    return answer.code


@dataclass(frozen=True, slots=True)
class Told:
    """What came of it, for the one who asked. `tone` is bad if something is left to be done."""

    text: str
    tone: Literal["good", "bad"] = "good"


def finish(hook: ZendeskHook, answer: Answer, verifier: str, authorized_by: str) -> Told:
    """Turn the answer into a token, keep it, and say as whom it acts."""
    code = code_in(answer, hook.where)
    before = _kept(hook)
    token = hook.token_source.exchange_code(code, verifier, authorized_by=authorized_by)
    if before is not None:
        _end(hook, before)
    missing = missing_scopes(hook.oauth_client.scope, token.scope)
    try:
        user = hook.client.users.me()
    except QadzdError as error:
        hook.secrets.put(ACTS_AS + hook.token_name, "")
        return Told(f"Connected to {hook.account.base_url}, but the first call failed. {error}", "bad")
    acts_as = f"{user.get('name')} ({user.get('role')})"
    hook.secrets.put(ACTS_AS + hook.token_name, acts_as)
    if missing:
        return Told(f"Connected to {hook.account.base_url} as {acts_as}. {_too_little(missing)}", "bad")
    return Told(f"Connected to {hook.account.base_url} as {acts_as}.")


def _kept(hook: ZendeskHook) -> Token | None:
    """The token of an earlier consent, None for none that can be read."""
    try:
        return hook.secrets.read(hook.token_name)
    except FixFirst:
        return None


def _end(hook: ZendeskHook, earlier: Token) -> None:
    """Revoke the token of an earlier consent, as far as may be: nobody could take it back once it is forgotten here."""
    with contextlib.suppress(requests.RequestException), requests.Session() as session:
        session.delete(
            f"{hook.account.base_url}/api/v2/oauth/tokens/current", timeout=(10.0, 30.0), allow_redirects=False,
            headers={"Authorization": f"Bearer {earlier.access}"}, auth=lambda request: request,
        )  # fmt: skip


def finish_for_user(hook: ZendeskHook, answer: Answer, pending: Pending, user_name: str) -> Told:
    """The same for a request that was kept. FixFirst if the connection means something else by now."""
    if (pending.base_url, pending.client_id) != (hook.account.base_url, hook.oauth_client.client_id):
        raise FixFirst(f"{hook.where} was changed after consent was asked for.", advice="Connect again.")
    return finish(hook, answer, pending.verifier, user_name)


def _too_little(missing: tuple[str, ...]) -> str:
    return (
        f"Zendesk did not grant {', '.join(missing)}: calls will be refused. "
        "Correct `scope` in the connection's extra, or what the OAuth client may have, and connect again."
    )


def disconnect(hook: ZendeskHook) -> Told:
    """Revoke the token in Zendesk, then forget it. TryLater if Zendesk cannot be reached: the token stays, then."""
    told = Told(f"Disconnected from {hook.account.base_url}. The token is revoked.")
    try:
        if hook.settings.auth == "api_token" or hook.secrets.read(hook.token_name) is None:
            return Told(f"{hook.where} is not connected: there was nothing to take back.")
    except FixFirst:
        told = Told(f"The token for {hook.account.base_url}, which no key opened, is forgotten. {_BY_HAND}", "bad")
    else:
        try:
            hook.client.tokens.revoke_current()
        except FixFirst as refusal:
            told = _not_revoked(hook, refusal)
    if not (hook.secrets.forget(hook.token_name) and hook.secrets.forget(ACTS_AS + hook.token_name)):
        raise TryLater(f"{hook.where}: another process is renewing the token.", advice="Disconnect again in a minute.")
    return told


def _not_revoked(hook: ZendeskHook, refusal: FixFirst) -> Told:
    # Without a status nothing was asked: there was nothing to renew it with. A client that is refused proves nothing.
    facts = refusal.facts
    refused = facts.status == 401 and not facts.path.endswith("/oauth/tokens")
    if refused or facts.status is None or facts.code == "invalid_grant":
        return Told(f"Disconnected from {hook.account.base_url}. The token had ended already.")
    return Told(
        f"The token for {hook.account.base_url} is forgotten here, but Zendesk refused to revoke it "
        f"[{refusal.facts}]. {_BY_HAND}",
        "bad",
    )


def connect_at_terminal(hook: ZendeskHook, read: Callable[[], str], say: Callable[[str], None]) -> Told:
    """Connect without a browser on this machine: `say` the address to open, `read` the one at which it ended."""
    asked = ask(hook)
    say(
        "Open this address in a browser, on any machine, and allow the access:\n\n"
        f"{asked.url}\n\n"
        f"The browser ends at an address that starts with {hook.oauth_client.redirect_uri}, whatever it shows there.\n"
        "Paste that address here within two minutes:"
    )
    answer = answer_in(read().strip().partition("?")[2].partition("#")[0])
    if not hmac.compare_digest(answer.state.encode(errors="replace"), asked.state.encode()):
        raise FixFirst(
            "That address is not the answer to this request.",
            advice="Run the command again, open the new address, and paste all of the address at which it ends.",
        )
    return finish(hook, answer, asked.verifier, f"{_who()} at a terminal")


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return "somebody"


@dataclass(frozen=True, slots=True)
class Standing:
    """How one connection stands, in words. Times are UTC; what is not known is empty."""

    conn_id: str
    flows: tuple[str, ...]
    address: str = ""
    auth: str = ""
    state: str = "cannot be told"
    tone: Literal["good", "bad", "plain"] = "bad"
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    asked: str = ""
    granted: str = ""
    missing: tuple[str, ...] = ()
    authorized_by: str = ""
    acts_as: str = ""
    expires_at: str = ""
    renewed: bool = False
    refresh_until: str = ""
    redirect_uri: str = ""
    connect: str = ""
    disconnect: bool = False


def standing_of(hook: ZendeskHook, flows: tuple[str, ...]) -> Standing:
    """How the connection stands by what the ledger knows. Zendesk is not asked."""
    try:
        return _standing(hook, flows)
    except QadzdError as error:
        return Standing(hook.zendesk_conn_id, flows, problems=(str(error),))


def _standing(hook: ZendeskHook, flows: tuple[str, ...]) -> Standing:
    how, address = hook.settings.auth, hook.account.base_url
    if how == "api_token":
        warning = api_token_warning(hook.where)
        return Standing(hook.zendesk_conn_id, flows, address, how, "API token, ends on 2027-04-30", problems=(warning,))
    try:
        token = hook.secrets.read(hook.token_name)
    except FixFirst as lost:
        problems = (str(lost), "Without that key: disconnect, which forgets the token, and obtain another.")
        return Standing(
            hook.zendesk_conn_id, flows, address, how, "cannot be opened", problems=problems, disconnect=True
        )  # fmt: skip
    client, asks = hook.oauth_client, how == "authorization_code"
    state, tone, notes = _consent(token, hook.ledger.clock.time()) if asks else _NO_CONSENT
    missing = missing_scopes(client.scope, token.scope) if token else ()
    kept = token or Token("")
    return Standing(
        hook.zendesk_conn_id, flows, address, how,
        state=f"{state}, with too few scopes" if missing else state,
        tone="bad" if missing else tone,
        problems=(_too_little(missing),) if missing else (),
        notes=notes,
        asked=client.scope,
        granted=kept.scope,
        missing=missing,
        authorized_by=kept.authorized_by,
        acts_as=_acts_as(hook, token) if asks else "the user who made the OAuth client",
        expires_at=_utc(kept.expires_at),
        renewed=not asks or bool(kept.refresh and state == "connected"),
        refresh_until=_utc(kept.refresh_until),
        redirect_uri=client.redirect_uri if asks else "",
        connect=("Connect again" if token else "Connect") if asks else "",
        disconnect=asks and token is not None,
    )  # fmt: skip


_Words = tuple[str, Literal["good", "bad", "plain"], tuple[str, ...]]
_NO_CONSENT: _Words = (
    "needs no consent", "plain",
    ("Airflow asks for a token by itself. It acts as the user who made the OAuth client in Zendesk.",),
)  # fmt: skip


def _consent(token: Token | None, now: float) -> _Words:
    """The state of a consent, and what explains it."""
    if token is None:
        return "not connected yet", "bad", ("Nobody has allowed this access in Zendesk yet.",)
    if token.state == "connect_again":
        return "connect again", "bad", ("Zendesk no longer accepts the token: it was revoked, or has lapsed.",)
    renewable = bool(token.refresh) and (token.refresh_until is None or token.refresh_until > now)
    if renewable or token.expires_at is None:
        return "connected", "good", ()
    if token.expires_at > now:
        return "connected", "good", ("The token cannot be renewed: connect again before it expires.",)
    return "connect again", "bad", ("The token has expired and can no longer be renewed.",)


def _acts_as(hook: ZendeskHook, token: Token | None) -> str:
    name = ACTS_AS + hook.token_name
    return hook.secrets.with_prefix(name).get(name, "") if token else ""


def _utc(epoch: float | None) -> str:
    return "" if epoch is None else f"{iso(epoch)[:16].replace('T', ' ')} UTC"
