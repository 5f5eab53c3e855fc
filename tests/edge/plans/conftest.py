"""A plan that waits for a review in the ledger, the DAG that applies it, and users at the browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_qadzd.operators.flow import OpenFlow
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sync.collect import collect
from airflow_provider_qadzd.sync.draft import Mode, Plan, draft_plan
from airflow_provider_qadzd.sync.mirror import refresh_mirror
from airflow_provider_qadzd.sync.plan import Brake
from tests.edge.connect.conftest import app  # noqa: F401 - a fixture
from tests.edge.test_dags import dags  # noqa: F401 - a fixture

Planner = Callable[..., Plan]


def planned(mode: Mode = "approve", brake: Brake = Brake(1.0)) -> Plan:  # noqa: B008 - frozen
    """Read both systems and make a plan, as the DAG's tasks do."""
    flow = OpenFlow("default")
    collect(flow.ledger, flow.flow.source_id, flow.qad.client, "qadzd_sync_accounts/run")
    refresh_mirror(flow.ledger, flow.flow.account_id, flow.zendesk.client)
    run = "qadzd_sync_accounts/scheduled__2026-11-24"
    return draft_plan(flow.ledger, flow.flow, flow.rules, run, brake, mode, flow.zendesk.bulk_import)


@pytest.fixture
def plan(sandbox: Sandbox) -> Plan:
    """A plan of a first run, which waits for a review."""
    return planned()
