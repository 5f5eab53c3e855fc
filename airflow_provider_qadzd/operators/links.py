"""Links on a task's page in Airflow: to what it wrote in Zendesk, to where that stands in QAD, to its plan.

A task tells while it runs what it was about (`FlowOperator.about`); the worker asks each link once the task is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.configuration import conf


@dataclass(frozen=True, slots=True)
class About:
    """Addresses of what a task was about; empty where there is none."""

    zendesk: str = ""
    qad: str = ""
    plan: str = ""


class _Link(BaseOperatorLink):
    """One of the addresses."""

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Empty, and so not shown, where the task was about nothing of the kind."""
        about = cast("About", getattr(operator, "about", None) or About())
        return str(getattr(about, self.name.lower()))


class ZendeskLink(_Link):
    """The organization, user or ticket if the task was about one, else the account."""

    name = "Zendesk"


class QadLink(_Link):
    """The customer's page if the task was about one, else the instance."""

    name = "QAD"


class PlanLink(_Link):
    """The plan, on its page in Airflow."""

    name = "Plan"


LINKS = (ZendeskLink(), QadLink(), PlanLink())


def agent_page(account_url: str, kind: str = "", zendesk_id: int | None = None) -> str:
    """Where agents see a record (`organization`, `user`, `ticket`), or the account where there is none."""
    return f"{account_url}/agent/{kind}s/{zendesk_id}" if zendesk_id else f"{account_url}/agent"


def plan_page(plan_id: int) -> str:
    """A plan's page, in Airflow."""
    root = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{root}/qadzd/plans/{plan_id}"
