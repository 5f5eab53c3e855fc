"""`airflow qadzd drift`, `ledger rebuild`, `rekey`: a ledger and its systems that went apart, mended at a terminal."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_qadzd.errors import TryLater

if TYPE_CHECKING:
    from airflow_provider_qadzd.operators.flow import OpenFlow

Result = TypeVar("Result")

RUN = "airflow qadzd"
"""How the audit names what was done at a terminal."""
_SHOWN = 1000


def drift(given: argparse.Namespace) -> None:
    """What stands, as the last look found it, or as one finds it now."""
    from airflow_provider_qadzd.ledger.drift import counts, standing
    from airflow_provider_qadzd.sync.drift import as_table, look

    told: dict[str, Any] = {}
    for name, flow in _flows(given):
        if given.now:
            looked = patiently(partial(look, flow.ledger, flow.flow, flow.zendesk.client, RUN, flow.rules))
            print(looked.summary(), file=sys.stderr)
        rows = standing(flow.ledger, flow.flow, limit=_SHOWN)
        if given.json:
            told[name] = [dict(row._mapping) for row in rows]
            continue
        total = counts(flow.ledger, flow.flow)
        stand = ", ".join(f"{count} {what}" for what, count in total.items())
        print(f"Flow {name}: {stand or 'no difference stands'}")
        if rows:
            print(as_table(rows))
        if sum(total.values()) > len(rows):
            print(f"... {sum(total.values()) - len(rows)} more")
    if given.json:
        print(json.dumps(told, indent=2))


def rebuild(given: argparse.Namespace) -> None:
    """Read all of QAD and Zendesk, and link again what belongs together. Nothing is written in either."""
    from airflow_provider_qadzd.sync.collect import collect
    from airflow_provider_qadzd.sync.rebuild import rebuild as find_again

    for name, flow in _flows(given):
        print(f"Flow {name}: reading QAD and all of Zendesk. Nothing is written there.", flush=True)
        for read in collect(flow.ledger, flow.flow.source_id, flow.qad.client, RUN, flow.rules.mapping, full=True):
            print(f"QAD: {read.summary()}.", flush=True)
        found = patiently(partial(find_again, flow.ledger, flow.flow, flow.zendesk.client, flow.rules, RUN))
        print(found.summary())


def rekey(given: argparse.Namespace) -> None:
    """Say what a flow has become and what would be made of it; with --yes, do it."""
    from airflow_provider_qadzd.ledger.health import KnownFlow
    from airflow_provider_qadzd.ledger.identity import Flow
    from airflow_provider_qadzd.sync.rekey import rekey as take_over
    from airflow_provider_qadzd.sync.rekey import rekeying_of

    for name, flow in _flows(given):
        settings, account = flow.settings, flow.zendesk.account
        now = KnownFlow(
            Flow(0, name, flow.qad.source_id, account.account_id), flow.qad.qad_url,
            ",".join(sorted(flow.qad.source_parts)), account.base_url, settings.organization, settings.user,
        )  # fmt: skip
        found = rekeying_of(flow.ledger, now, flow.zendesk.client, flow.rules)
        if found is None:
            print(f"Flow {name} is what it was; there is nothing to rekey.")
            continue
        print("\n  ".join([f"Flow {name} is not what it was.", *found.told]))
        if not given.yes:
            print("Nothing was done. Give --yes to do it; pause the flow's DAGs to see a dry run before any other.")
            continue
        take_over(flow.ledger, found, f"{RUN} rekey")
        print("Done. Nothing was written in Zendesk: the next run of qadzd_sync_accounts plans what follows.")


def _flows(given: argparse.Namespace) -> list[tuple[str, OpenFlow]]:
    from airflow_provider_qadzd import config
    from airflow_provider_qadzd.operators.flow import OpenFlow

    logging.disable(logging.WARNING)  # Airflow logs to stdout, which is for what was found, maybe as JSON
    names = [given.flow] if given.flow else [one.name for one in config.flows()]
    return [(name, OpenFlow(name)) for name in names]


def patiently(act: Callable[[], Result]) -> Result:
    """Where Zendesk's calls are used up, wait and go on."""
    from airflow_provider_qadzd.zendesk.pace import calls_used_up

    while True:
        try:
            return act()
        except TryLater as busy:
            if not calls_used_up(busy):
                raise
            print(f"Zendesk's limit of calls is reached; going on in {busy.wait:.0f} s.", file=sys.stderr, flush=True)
            time.sleep(busy.wait)
