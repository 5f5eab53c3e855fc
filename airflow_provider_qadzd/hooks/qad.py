"""The hooks for QAD, one for each edition, and `qad_hook`, which finds the right one for a connection.

The edition is a property of the connection: nothing behind a hook's `client` knows which it was. Each is an HttpHook
for those who want a raw call, without what HttpHook does with a connection's extra: nothing of it becomes a header,
every call has a time limit, and errors keep their facts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import requests
from airflow.providers.http.hooks.http import HttpHook

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.findings import Report
from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.vault import Secrets
from airflow_provider_qadzd.qad.client import QadClient, QadSettings, connect, normalised_base_url
from airflow_provider_qadzd.qad.http import page_template
from airflow_provider_qadzd.qad.preflight import preflight
from airflow_provider_qadzd.qad.qxtend_settings import QxtendSettings, normalised_service_url, qxtend_settings
from airflow_provider_qadzd.qad.reader import QadReader
from airflow_provider_qadzd.settings import settings_from

if TYPE_CHECKING:
    from airflow_provider_qadzd.qad.qxtend_client import QxtendClient


class EditionSettings(Protocol):
    """What the settings of every edition have."""

    @property
    def customer_scope(self) -> str: ...
    @property
    def customer_url(self) -> str: ...
    @property
    def orders_url(self) -> str: ...
    @property
    def billing_url(self) -> str: ...
    @property
    def timeout(self) -> float: ...


class EditionHook(HttpHook, ABC):
    """QAD through the connection `qad_conn_id`, whichever edition it is of."""

    conn_name_attr = "qad_conn_id"

    def __init__(self, qad_conn_id: str, ledger: Ledger | None = None) -> None:
        super().__init__(http_conn_id=qad_conn_id)
        self.qad_conn_id = qad_conn_id
        self.where = f"connection {qad_conn_id}"
        self._given_ledger = ledger

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger that keeps this connection's token."""
        return self._given_ledger or config.open_ledger()

    @property
    @abstractmethod
    def settings(self) -> EditionSettings:
        """The connection's extra, checked."""

    @property
    @abstractmethod
    def qad_url(self) -> str:
        """The instance's normalised address."""

    @property
    @abstractmethod
    def source_parts(self) -> tuple[str, ...]:
        """What of the instance is read: with the address, the identity of the source."""

    @property
    @abstractmethod
    def client(self) -> QadReader:
        """Customers and contacts as records."""

    @cached_property
    def source_id(self) -> int:
        """The ledger's id of the instance that this connection means now."""
        return identity.source_id_of(self.ledger, self.qad_url, self.source_parts)

    @cached_property
    def session(self) -> requests.Session:
        """One session for the hook's life; `client` signs it."""
        return requests.Session()

    def page(self, name: Literal["customer", "orders", "billing"]) -> str:
        """The template of a customer's page, with the address filled in; empty where there is none."""
        setting = f"{name}_url"
        return page_template(getattr(self.settings, setting), self.qad_url, setting, self.where)

    def _extra(self) -> dict[str, Any]:
        return config.extra_of(config.connection(self.qad_conn_id), self.qad_conn_id)

    def _host(self) -> str:
        self._set_base_url(config.connection(self.qad_conn_id))
        return str(self.base_url)

    def get_conn(
        self, headers: dict[Any, Any] | None = None, extra_options: dict[str, Any] | None = None
    ) -> requests.Session:
        """The signed session. Nothing of the connection's extra becomes a header."""
        _ = self.client  # signs the session
        self.base_url, self.merged_extra = self.qad_url, {"timeout": self.settings.timeout, **(extra_options or {})}
        self.merged_extra.setdefault("allow_redirects", False)
        self.session.headers.update(headers or {})
        return self.session

    def check_response(self, response: requests.Response) -> None:
        """Our errors, with their facts and without the body."""
        if response.status_code < 300:
            return
        facts = Facts("qad", response.request.method or "", _path(response), response.status_code)
        if response.status_code in (429, 500, 502, 503, 504):
            raise TryLater("QAD is busy or away.", facts=facts)
        raise FixFirst("QAD refused the call.", advice=f"Check {self.where}.", facts=facts)

    @abstractmethod
    def preflight(self, *, quick: bool = False) -> Report:
        """What is there, what is missing, and what to set; `quick` looks only at what every read needs."""

    def refuse_unfit(self) -> None:
        """FixFirst naming everything that a read would stumble over; TryLater while QAD is away."""
        how = f"`airflow qadzd preflight {self.qad_conn_id}` shows everything, and what to set."
        self.preflight(quick=True).refuse(self.where, how)

    def test_connection(self) -> tuple[bool, str]:
        """Whether QAD answers, lets us in, and has what the connection says it has."""
        try:
            report = self.preflight(quick=True)
        except QadzdError as error:  # the settings themselves
            return False, str(error)
        return report.good, report.told()


class QadHook(EditionHook):
    """QAD Adaptive ERP over REST: host = base URL with context root, login and password of a QAD user."""

    default_conn_name = "qad_default"
    conn_type = "qad"
    hook_name = "QAD Adaptive ERP"

    def __init__(self, qad_conn_id: str = default_conn_name, ledger: Ledger | None = None) -> None:
        super().__init__(qad_conn_id, ledger)

    @cached_property
    def settings(self) -> QadSettings:
        """The connection's extra, checked."""
        return settings_from(QadSettings, self._extra(), f"{self.where}, extra")

    @cached_property
    def qad_url(self) -> str:
        """The instance's normalised base URL."""
        return normalised_base_url(self._host(), self.settings.allow_http, self.where)

    @property
    def source_parts(self) -> tuple[str, ...]:
        """Its workspaces."""
        return self.settings.workspaces

    @cached_property
    def client(self) -> QadClient:
        """Customers and contacts as records."""
        found = config.connection(self.qad_conn_id)
        tokens = Secrets(self.ledger, config.vault(), f"source:{self.source_id}")
        return connect(
            self.qad_url, found.login or "", found.password or "", self.settings, tokens=tokens, session=self.session,
            where=self.where,
        )  # fmt: skip

    def preflight(self, *, quick: bool = False) -> Report:
        """Host and context root, credentials, workspaces, browses, columns, paging."""
        return preflight(self.client, self._extra(), quick=quick)


class QxtendHook(EditionHook):
    """QAD Enterprise Edition through QXtend, or a SOAP service of the site's: host = the service's whole address."""

    default_conn_name = "qad_qxtend_default"
    conn_type = "qad_qxtend"
    hook_name = "QAD Enterprise Edition (QXtend)"

    def __init__(self, qad_conn_id: str = default_conn_name, ledger: Ledger | None = None) -> None:
        super().__init__(qad_conn_id, ledger)

    @cached_property
    def settings(self) -> QxtendSettings:
        """The connection's extra over its profile, checked."""
        return qxtend_settings(self._extra(), f"{self.where}, extra")

    @cached_property
    def qad_url(self) -> str:
        """The service's normalised address."""
        return normalised_service_url(self._host(), self.settings.allow_http, self.where)

    @property
    def source_parts(self) -> tuple[str, ...]:
        """Its receiver and domains: another domain of one receiver is another source."""
        return self.settings.source_parts

    @cached_property
    def client(self) -> QxtendClient:
        """Customers and contacts as records. FixFirst without the packages of the extra `[qxtend]`."""
        try:
            from airflow_provider_qadzd.qad.qxtend_client import connect as connect_qxtend
        except ImportError as error:
            raise FixFirst(
                f"{self.where}: QXtend needs the Python package {error.name}, which is not installed.",
                advice="Install airflow-provider-qadzd[qxtend] on every machine that runs tasks.",
            ) from None
        found = config.connection(self.qad_conn_id)
        return connect_qxtend(
            self.qad_url, found.login or "", found.password or "", self.settings, session=self.session, where=self.where
        )

    def preflight(self, *, quick: bool = False) -> Report:
        """Address, credentials, receiver and operation, rows and their elements, paging."""
        client = self.client  # says what to install, if need be
        from airflow_provider_qadzd.qad.qxtend_preflight import preflight as preflight_qxtend

        return preflight_qxtend(client, self._extra(), quick=quick)


def qad_hook(qad_conn_id: str, ledger: Ledger | None = None) -> QadHook | QxtendHook:
    """The hook of the connection's own type. FixFirst if that is none of QAD's."""
    found = config.connection(qad_conn_id)
    for hook in (QadHook, QxtendHook):
        if found.conn_type == hook.conn_type:
            return hook(qad_conn_id, ledger)
    raise FixFirst(
        f"Connection {qad_conn_id} is of type {found.conn_type!r}, which is not QAD's.",
        advice=f"Make it one of type {QadHook.conn_type} or {QxtendHook.conn_type}.",
    )


def _path(response: requests.Response) -> str:
    return (response.request.path_url or "").split("?", 1)[0]
