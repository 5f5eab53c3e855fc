"""`airflow qadzd drift` and `ledger rebuild`: a ledger and a Zendesk that went apart, seen and mended at a terminal."""

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
            looked = patiently(partial(look, flow.ledger, flow.flow, flow.zendesk.client, RUN, flow.rules.mapping))
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
        for read in collect(flow.ledger, flow.flow.source_id, flow.qad.client, RUN, flow.rules.mapping):
            print(f"QAD: {read.summary()}.", flush=True)
        found = patiently(partial(find_again, flow.ledger, flow.flow, flow.zendesk.client, flow.rules, RUN))
        print(found.summary())


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
