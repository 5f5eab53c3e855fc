"""`airflow qadzd onboard`: what the DAG of that name does, at a terminal. Heavy imports inside."""

from __future__ import annotations

import argparse
import logging

from airflow.cli.cli_config import Arg

FLOW = Arg(("--flow",), help="Which flow of [qadzd] flows", default="default")
URL = Arg(("--receiver-url",), help="Where Zendesk reaches the receiver; [qadzd] receiver_url if not given", default="")
ROUTE = Arg(
    ("--route",), help="How changes are told: the webhook subscribes to events, or triggers call it; as it is, else "
    "events, if not given", choices=("events", "triggers"), default="as it is",
)  # fmt: skip
ORGANIZATIONS = Arg(
    ("--set-ticket-organization",), help="Whether open tickets that lack their organization are given it; as it is, "
    "else no, if not given", choices=("yes", "no"), default="as it is",
)  # fmt: skip
NO_TEST = Arg(("--no-test",), help="Do not let Zendesk deliver anything for a test", action="store_true")
REMOVE = Arg(("--remove",), help="Take triggers, webhook and signing secret away instead", action="store_true")
FIELDS = Arg(("--fields",), help="With --remove: also our fields, and their values with them", action="store_true")


def onboard(given: argparse.Namespace) -> None:
    """Onboard, or undo it, and print every step when it is done, and what an admin must still do."""
    from airflow_provider_qadzd.operators.flow import OpenFlow
    from airflow_provider_qadzd.operators.onboard import Asked, onboarded

    logging.disable(logging.WARNING)  # Airflow logs to stdout, which is for what was done
    asked = Asked(
        given.receiver_url, given.route, given.set_ticket_organization, not given.no_test, given.remove, given.fields
    )  # fmt: skip
    onboarded(OpenFlow(given.flow), asked, lambda told: print(told, flush=True))
