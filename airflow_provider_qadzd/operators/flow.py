"""What every operator of a flow has: its two hooks, the ledger's rows they mean, our retry policy, its run's name."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import BaseOperator

from airflow_provider_qadzd import config
from airflow_provider_qadzd.config import FlowSettings
from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.hooks.qad import EditionHook, qad_hook
from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.operators.links import LINKS, About, agent_page
from airflow_provider_qadzd.retry import QadzdRetryPolicy
from airflow_provider_qadzd.sync.mapping import Rules
from airflow_provider_qadzd.zendesk.pace import calls_used_up

_SHORTEST_DEFERRAL = 5.0
"""Seconds: a deferral costs three to five by itself."""


class OpenFlow:
    """A flow as its connections mean it now."""

    def __init__(self, name: str) -> None:
        self.settings = config.flow_settings(name)
        self.ledger: Ledger = config.open_ledger()
        self.qad = qad_hook(self.settings.qad, self.ledger)
        self.zendesk = ZendeskHook(self.settings.zendesk, self.ledger)

    @cached_property
    def flow(self) -> Flow:
        """The ledger's row; FixFirst if the connections or templates mean another one than before."""
        _refuse_unscoped(self.settings, self.qad)
        return identity.flow_named(
            self.ledger, self.settings.name, self.qad.source_id, self.zendesk.account.account_id,
            self.settings.organization, self.settings.user,
        )  # fmt: skip

    @cached_property
    def rules(self) -> Rules:
        """How records are mapped. FixFirst with every error in the mapping file."""
        qad, named = self.qad, self.settings
        return Rules(
            named.organization, named.user, qad.page("customer"), config.mapping(), config.policies(),
            orders_page=qad.page("orders"), billing_page=qad.page("billing"),
        )  # fmt: skip


def _refuse_unscoped(settings: FlowSettings, qad: EditionHook) -> None:
    """FixFirst if two customers of one code, in two scopes, would get one external id."""
    scope = qad.settings.customer_scope
    if scope != "none" and f"{{{scope}}}" not in settings.organization:
        raise FixFirst(
            f"{qad.where} keeps customers apart by {scope}, but flow {settings.name!r} names them all alike.",
            advice=f"Put {{{scope}}} into its organization template: `{{{scope}}}:{{code}}`.",
        )


class FlowOperator(BaseOperator):
    """An operator of one flow of `[qadzd] flows`."""

    template_fields: Sequence[str] = ("flow",)
    operator_extra_links = LINKS
    about: About | None = None
    """What the task's links lead to."""

    def __init__(self, *, flow: str = "default", **kwargs: Any) -> None:
        kwargs.setdefault("retry_policy", QadzdRetryPolicy())
        super().__init__(**kwargs)
        self.flow = flow

    def opened(self) -> OpenFlow:
        """The flow, opened in the process that runs the task.

        FixFirst if its Zendesk connection means another account than before: nothing is read or written there.
        """
        opened = OpenFlow(self.flow)
        identity.refuse_another_account(opened.ledger, self.flow, opened.zendesk.account.account_id)
        self.about = About(zendesk=agent_page(opened.zendesk.account.base_url))
        return opened

    @contextmanager
    def deferring(self, done: Any = None) -> Iterator[None]:
        """Where Zendesk's calls are used up, gives the slot back until there are some, and no try is lost.

        `execute` is then called again, with what is `done` so far (a dict or a dataclass) as `so_far`: a long first
        read is many such pieces.
        """
        try:
            yield
        except TryLater as busy:
            if not calls_used_up(busy):
                raise
            so_far = done if isinstance(done, dict) or done is None else asdict(done)
            self.log.info("%s Done so far: %s.", busy, so_far)
            self.defer_until(time.time() + busy.wait, so_far=so_far)

    def defer_until(self, moment: float, **kwargs: Any) -> None:
        """Give the slot back until `moment` (Unix seconds); `execute` is called again with `kwargs`."""
        resume = datetime.fromtimestamp(max(moment, time.time() + _SHORTEST_DEFERRAL), timezone.utc)
        self.log.info("Waiting until %s; this task gives its slot back.", resume)
        self.defer(trigger=DateTimeTrigger(moment=resume), method_name="execute", kwargs=kwargs)


def run_name(context: Mapping[str, Any]) -> str:
    """The run as the ledger and its audit name it."""
    return f"{context['dag'].dag_id}/{context['run_id']}"
