"""The hook for QAD Adaptive ERP.

It is an HttpHook for those who want a raw call, without what HttpHook does with a connection's extra: nothing of it
becomes a header, every call has a time limit, and errors keep their facts.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import requests
from airflow.providers.http.hooks.http import HttpHook

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.findings import Report
from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.vault import Secrets
from airflow_provider_qadzd.qad.client import QadClient, QadSettings, connect, normalised_base_url
from airflow_provider_qadzd.qad.preflight import preflight
from airflow_provider_qadzd.settings import settings_from


class QadHook(HttpHook):
    """QAD through the connection `qad_conn_id`: host = base URL with context root, login and password of a QAD user."""

    conn_name_attr = "qad_conn_id"
    default_conn_name = "qad_default"
    conn_type = "qad"
    hook_name = "QAD Adaptive ERP"

    def __init__(self, qad_conn_id: str = default_conn_name, ledger: Ledger | None = None) -> None:
        super().__init__(http_conn_id=qad_conn_id)
        self.qad_conn_id = qad_conn_id
        self.where = f"connection {qad_conn_id}"
        self._given_ledger = ledger

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger that keeps this connection's token."""
        return self._given_ledger or config.open_ledger()

    @cached_property
    def settings(self) -> QadSettings:
        """The connection's extra, checked."""
        extra = config.extra_of(config.connection(self.qad_conn_id), self.qad_conn_id)
        return settings_from(QadSettings, extra, f"{self.where}, extra")

    @cached_property
    def qad_url(self) -> str:
        """The instance's normalised base URL."""
        found = config.connection(self.qad_conn_id)
        self._set_base_url(found)
        return normalised_base_url(self.base_url, self.settings.allow_http, self.where)

    @cached_property
    def source_id(self) -> int:
        """The ledger's id of the instance that this connection means now."""
        return identity.source_id_of(self.ledger, self.qad_url, self.settings.workspaces)

    @cached_property
    def session(self) -> requests.Session:
        """One session for the hook's life; `client` signs it."""
        return requests.Session()

    @cached_property
    def client(self) -> QadClient:
        """Customers and contacts as records."""
        found = config.connection(self.qad_conn_id)
        tokens = Secrets(self.ledger, config.vault(), f"source:{self.source_id}")
        return connect(
            self.qad_url, found.login or "", found.password or "", self.settings, tokens=tokens, session=self.session,
            where=self.where,
        )  # fmt: skip

    def get_conn(
        self, headers: dict[Any, Any] | None = None, extra_options: dict[str, Any] | None = None
    ) -> requests.Session:
        """The signed session. Nothing of the connection's extra becomes a header."""
        self.base_url, self.merged_extra = (
            self.client.base_url,
            {"timeout": self.settings.timeout, **(extra_options or {})},
        )
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

    def preflight(self, *, quick: bool = False) -> Report:
        """What is there, what is missing, and what to set; `quick` looks only at what every read needs."""
        extra = config.extra_of(config.connection(self.qad_conn_id), self.qad_conn_id)
        return preflight(self.client, extra, quick=quick)

    def refuse_unfit(self) -> None:
        """FixFirst naming everything that a read would stumble over; TryLater while QAD is away."""
        how = f"`airflow qadzd preflight {self.qad_conn_id}` shows everything, and what to set."
        self.preflight(quick=True).refuse(self.where, how)

    def test_connection(self) -> tuple[bool, str]:
        """Whether QAD answers, lets us in, and knows the browses and their columns."""
        try:
            report = self.preflight(quick=True)
        except QadzdError as error:  # the settings themselves
            return False, str(error)
        return report.good, report.told()


def _path(response: requests.Response) -> str:
    return (response.request.path_url or "").split("?", 1)[0]
