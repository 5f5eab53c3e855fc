"""`airflow qadzd plan`: plans at a terminal. Listed, shown, and applied once somebody has looked."""

from __future__ import annotations

import argparse
import getpass
import logging

from airflow.cli.cli_config import Arg

from airflow_provider_qadzd.errors import FixFirst

FLOW = Arg(("--flow",), help="Only plans of this flow of [qadzd] flows")
PLAN = Arg(("plan_id",), help="The plan's number, or latest", nargs="?", default="latest")
NUMBER = Arg(("plan_id",), help="The plan's number", type=int)
KIND = Arg(("--kind",), help="Only changes of this kind", choices=("organization", "user", "membership", "identity"))
SEARCH = Arg(("--search",), help="Only changes whose key starts so, or whose name holds it", default="")
LIMIT = Arg(("--limit",), help="How many", type=int, default=20)
AFTER = Arg(("--after",), help="Only changes above this change id", type=int, default=0)
EMPTY = Arg(("--all",), help="Also plans without changes", action="store_true")
JSON = Arg(("--json",), help="Print JSON", action="store_true")
SKIP = Arg(("--skip-moved",), help="Leave out what moved since, instead of refusing", action="store_true")


def plan_list(given: argparse.Namespace) -> None:
    """The newest plans, one a line."""
    from airflow_provider_qadzd import config
    from airflow_provider_qadzd.ledger import plans
    from airflow_provider_qadzd.sync.showing import list_as_text

    logging.disable(logging.WARNING)  # Airflow logs to stdout, which is for the plans
    flows = [config.flow_settings(given.flow).name] if given.flow else [one.name for one in config.flows()]
    print(list_as_text(plans.recent(config.open_ledger(), flows, given.limit, empty=given.all)))


def plan_show(given: argparse.Namespace) -> None:
    """One plan: counts, fields, reasons, then changes with before and after."""
    from airflow_provider_qadzd import config
    from airflow_provider_qadzd.ledger import plans
    from airflow_provider_qadzd.sync.showing import as_json, as_text, shown

    logging.disable(logging.WARNING)
    ledger = config.open_ledger()
    flow = config.flow_settings(given.flow).name if given.flow else None
    if given.plan_id == "latest":
        row = plans.latest(ledger, flow)
    elif given.plan_id.isdigit():
        row = plans.plan_at(ledger, int(given.plan_id))
    else:
        raise FixFirst(f"{given.plan_id!r} is no plan.", advice="Give its number, or latest.")
    items = plans.page(
        ledger, row.plan_id, given.limit, kind=given.kind or "", search=given.search, after=given.after
    )  # fmt: skip
    print((as_json if given.json else as_text)(shown(ledger, row), items))


def plan_apply(given: argparse.Namespace) -> None:
    """Approve a plan that waits and trigger the run that applies it, as the page's button does."""
    from airflow_provider_qadzd import config
    from airflow_provider_qadzd.reviewing import approve_and_trigger

    ledger = config.open_ledger()
    by = f"{getpass.getuser()} (terminal)"
    print(approve_and_trigger(ledger, given.plan_id, by, skip_moved=given.skip_moved, from_page=False))
