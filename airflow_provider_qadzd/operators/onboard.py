"""Getting a Zendesk account ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.vault import Secrets
from airflow_provider_qadzd.operators.flow import FlowOperator
from airflow_provider_qadzd.sync.onboard import onboard


class ZendeskOnboardOperator(FlowOperator):
    """Make our fields, the webhook and the export's starting point, whatever of them is missing.

    `receiver_url` is where Zendesk reaches the receiver; empty takes `[qadzd] receiver_url`.
    """

    template_fields: Sequence[str] = ("flow", "receiver_url")

    def __init__(self, *, receiver_url: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.receiver_url = receiver_url

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        url = self.receiver_url or config.option("receiver_url")
        if not url:
            raise FixFirst(
                "It is not known where Zendesk reaches the receiver.",
                advice="Set [qadzd] receiver_url, or give receiver_url to this run.",
            )
        flow = self.opened()
        account = flow.zendesk.account
        secrets = Secrets(flow.ledger, config.receiver_vault(), account.holder)
        done = onboard(flow.ledger, account, flow.zendesk.client, secrets, url)
        self.log.info("%s", done.summary())
        return asdict(done)
