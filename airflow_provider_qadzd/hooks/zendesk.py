"""The hook for Zendesk Support.

It is an HttpHook for those who want a raw call, without what HttpHook does with a connection's extra: nothing of it
becomes a header, every call has a time limit, and errors keep their facts and Retry-After.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import requests
from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk import Connection
from airflow.sdk.configuration import conf

from airflow_provider_qadzd import config
from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.budget import LedgerBudget
from airflow_provider_qadzd.ledger.identity import Account
from airflow_provider_qadzd.ledger.vault import Secrets
from airflow_provider_qadzd.records import digest
from airflow_provider_qadzd.settings import settings_from
from airflow_provider_qadzd.sync.export import LEFT_TO_LIVE
from airflow_provider_qadzd.zendesk import oauth
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.connection import ZendeskSettings, base_url_of
from airflow_provider_qadzd.zendesk.oauth import OAuthClient, ZendeskAuth
from airflow_provider_qadzd.zendesk.pace import Pace
from airflow_provider_qadzd.zendesk.tokens import TokenSource
from airflow_provider_qadzd.zendesk.wire import error_from

log = logging.getLogger(__name__)

CALLBACK = "/qadzd/connect/callback"
"""The Connect page's address for Zendesk's answer, below Airflow's own."""


def settings_in(found: Connection) -> ZendeskSettings:
    """A connection's extra, checked."""
    where = f"connection {found.conn_id}"
    return settings_from(ZendeskSettings, config.extra_of(found, found.conn_id or ""), f"{where}, extra")


def base_url_in(found: Connection) -> str:
    """The normalised address of the account that a connection's host (and port) names."""
    host = f"{found.host or ''}:{found.port}" if found.port else found.host or ""
    return base_url_of(host, allow_http=settings_in(found).allow_http)


def redirect_uri_in(settings: ZendeskSettings) -> str:
    """Where Zendesk sends the browser after consent: as the connection says, else to Airflow's own Connect page."""
    return settings.redirect_uri or conf.get("api", "base_url", fallback="").rstrip("/") + CALLBACK


class ZendeskHook(HttpHook):
    """Zendesk through `zendesk_conn_id`: host = subdomain, login and password = OAuth client and its secret."""

    conn_name_attr = "zendesk_conn_id"
    default_conn_name = "zendesk_default"
    conn_type = "zendesk_support"
    hook_name = "Zendesk Support (QAD sync)"

    def __init__(
        self, zendesk_conn_id: str = default_conn_name, ledger: Ledger | None = None, found: Connection | None = None
    ) -> None:  # fmt: skip
        super().__init__(http_conn_id=zendesk_conn_id)
        self.zendesk_conn_id = zendesk_conn_id
        self.where = f"connection {zendesk_conn_id}"
        self._given_ledger, self._given_connection = ledger, found

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger that keeps this account's token, budgets and mirror."""
        return self._given_ledger or config.open_ledger()

    @cached_property
    def found(self) -> Connection:
        """The connection: as given, where it had to be asked for asynchronously, else as Airflow has it."""
        return self._given_connection or config.connection(self.zendesk_conn_id)

    @cached_property
    def settings(self) -> ZendeskSettings:
        """The connection's extra, checked."""
        return settings_in(self.found)

    @cached_property
    def account(self) -> Account:
        """The ledger's row of the account that this connection means now."""
        return identity.account_at(self.ledger, base_url_in(self.found))

    @cached_property
    def secrets(self) -> Secrets:
        """Where the account's tokens are kept."""
        return Secrets(self.ledger, config.vault(), self.account.holder)

    @cached_property
    def oauth_client(self) -> OAuthClient:
        """The OAuth client that the connection's login and password are."""
        found, asks = self.found, self.settings.auth == "authorization_code"
        return OAuthClient(
            self.account.base_url, found.login or "", found.password or "", self.settings.scope,
            redirect_uri_in(self.settings), "authorization_code" if asks else "client_credentials", self.where,
        )  # fmt: skip

    @property
    def token_name(self) -> str:
        """Under which name `secrets` keeps the account's token.

        A consent outlives a new client secret; a token by client credentials is asked for anew with other ones.
        """
        client = self.oauth_client
        name = f"token:{self.settings.auth}:{client.client_id}"
        asks = client.grant == "authorization_code"
        return name if asks else f"{name}:{digest(client.client_secret, client.scope)[:8]}"

    @cached_property
    def token_source(self) -> TokenSource:
        """The account's OAuth token, kept valid across processes."""
        return TokenSource(self.token_name, self.oauth_client, self.secrets, requests.Session())

    @cached_property
    def session(self) -> requests.Session:
        """One signed session for the hook's life."""
        session = requests.Session()
        if self.settings.auth == "api_token":
            log.warning("%s", oauth.api_token_warning(self.where))
            token = oauth.ApiToken(self.found.login or "", self.found.password or "", self.where)
            session.auth = ZendeskAuth(self.account.base_url, token)
        else:
            session.auth = ZendeskAuth(self.account.base_url, self.token_source)
        return session

    @cached_property
    def client(self) -> ZendeskClient:
        """The Support API by resource."""
        return self._client({})

    @cached_property
    def history_client(self) -> ZendeskClient:
        """The same for reading the past, which leaves some of the exports' calls to live runs."""
        return self._client({"exports": LEFT_TO_LIVE})

    def _client(self, leave: Mapping[str, float]) -> ZendeskClient:
        budget = LedgerBudget(self.ledger, self.account.account_id, self.settings.rate_share, leave)
        return ZendeskClient(
            self.account.base_url, self.session, Pace(budget), timeout=(10.0, self.settings.timeout)
        )  # fmt: skip

    @property
    def bulk_import(self) -> bool | None:
        """Whether the account imports users in bulk: as configured, or None to find out."""
        return {"on": True, "off": False}.get(self.settings.bulk_import)

    def get_conn(
        self, headers: dict[Any, Any] | None = None, extra_options: dict[str, Any] | None = None
    ) -> requests.Session:
        """The signed session. Nothing of the connection's extra becomes a header."""
        self.base_url = self.account.base_url
        self.merged_extra = {"timeout": self.settings.timeout, "allow_redirects": False, **(extra_options or {})}
        self.session.headers.update(headers or {})
        return self.session

    def check_response(self, response: requests.Response) -> None:
        """Our errors, with their facts and without the body."""
        if response.status_code >= 300:
            path = (response.request.path_url or "").split("?", 1)[0]
            raise error_from(
                response.status_code, response.headers, response.content, response.request.method or "", path,
                base_url=self.account.base_url, now=time.time(),
            )  # fmt: skip

    def test_connection(self) -> tuple[bool, str]:
        """Whether Zendesk is there, knows us as an admin, and gave the token the scopes that are needed."""
        from airflow_provider_qadzd.doctor import examine_connection

        return examine_connection(self)
