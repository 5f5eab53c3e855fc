"""Getting a Zendesk account ready, and undoing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.vault import Secrets
from airflow_provider_qadzd.operators.flow import FlowOperator, OpenFlow
from airflow_provider_qadzd.settings import settings_from
from airflow_provider_qadzd.sync.onboard import Choices, Onboarded, onboard, remove
from airflow_provider_qadzd.sync.webhooks import Route

AS_IT_IS = "as it is"
ROUTES: Mapping[str, Route | None] = {AS_IT_IS: None, "events": "events", "triggers": "triggers"}
ORGANIZATIONS: Mapping[str, bool | None] = {AS_IT_IS: None, "yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run's form, or a command, asks for, in its own words."""

    receiver_url: str = ""
    route: str = AS_IT_IS
    set_ticket_organization: str = AS_IT_IS
    test_delivery: bool = True
    remove: bool = False
    remove_fields: bool = False


def onboarded(flow: OpenFlow, asked: Asked, tell: Callable[[str], None]) -> Onboarded:
    """Do what is asked for the flow's account, telling each step.

    FixFirst for what is not in the form, or where no address is known.
    """
    account, client = flow.zendesk.account, flow.zendesk.client
    secrets = Secrets(flow.ledger, config.receiver_vault(), account.holder)
    url = asked.receiver_url or config.option("receiver_url")
    if asked.remove:
        return remove(flow.ledger, account, client, secrets, url, tell, fields=asked.remove_fields)
    if not url:
        raise FixFirst(
            "It is not known where Zendesk reaches the receiver.",
            advice="Set [qadzd] receiver_url, or give receiver_url to this run.",
        )
    choices = Choices(
        url, _one_of(ROUTES, asked.route, "route"),
        _one_of(ORGANIZATIONS, asked.set_ticket_organization, "set_ticket_organization"),
        asked.test_delivery, flow.zendesk.settings.auth != "api_token",
    )  # fmt: skip
    return onboard(flow.ledger, account, client, secrets, choices, tell)


def _one_of(known: Mapping[str, Any], given: str, name: str) -> Any:
    if given not in known:
        raise FixFirst(f"{name} cannot be {given!r}.", advice=f"It is one of: {', '.join(known)}.")
    return known[given]


class ZendeskOnboardOperator(FlowOperator):
    """Make our fields, the webhook and the export's starting point, whatever of them is missing; or take them away.

    `asked` has the names of `Asked`, as values or as texts (`receiver_url`, where Zendesk reaches the receiver; empty
    takes `[qadzd] receiver_url`). Returns what was done, and what an admin must still do.
    """

    template_fields: Sequence[str] = ("flow", "asked")

    def __init__(self, *, asked: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.asked = dict(asked or {})

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        asked = settings_from(Asked, self.asked, "this run's parameters")
        done = onboarded(self.opened(), asked, lambda told: self.log.info("%s", told))
        return {
            "endpoint": done.endpoint, "webhook_id": done.webhook_id, "route": done.route, "todo": done.todo,
            "steps": [f"{what} {thing}" for what, thing in done.steps],
        }  # fmt: skip
