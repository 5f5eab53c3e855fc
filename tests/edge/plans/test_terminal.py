"""Plans at a terminal, and through the DAG: planned by a scheduled run, shown, approved, applied."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_qadzd import cli
from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.operators.accounts import plan_mode
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sync.draft import Plan
from tests.edge.plans.conftest import planned
from tests.edge.test_dags import NO_TEST_DELIVERY, returned, run

pytestmark = pytest.mark.usefixtures("airflow_database")
ACCOUNTS = "qadzd_sync_accounts"


@pytest.fixture
def qadzd(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `airflow qadzd plan ...` and returns what it prints."""
    (group,) = cli.get_commands()
    plan = next(one for one in group.subcommands if one.name == "plan")

    def said(*words: str) -> str:
        command = next(one for one in plan.subcommands if one.name == words[0])
        parser = argparse.ArgumentParser()
        for arg in command.args:
            arg.add_to_parser(parser)
        capsys.readouterr()
        command.func(parser.parse_args(words[1:]))
        return capsys.readouterr().out

    return said


def test_a_plan_is_shown(qadzd: Any, plan: Plan) -> None:
    """`plan show` says how far the plan is, what it costs, counts, reasons and changes; `plan list` has it."""
    told = qadzd("show")
    assert re.search(rf"Plan {plan.plan_id} of flow default: waits for a review\.", told)
    for part in ("Zendesk calls", "Within the brake", "Organizations", "the email is an agent's", "qad_city: "):
        assert part in told
    assert len(re.findall(r"^  (?:created|adopted|updated|add) ", told, re.MULTILINE)) == 20
    assert "waits for a review" in qadzd("list")
    users = qadzd("show", str(plan.plan_id), "--kind", "user", "--limit", "3")
    assert len(re.findall(r"^  \w+ +user ", users, re.MULTILINE)) == 3
    assert not re.search(r"^  \w+ +organization ", users, re.MULTILINE)


def test_a_plan_is_shown_to_machines(qadzd: Any, plan: Plan) -> None:
    """`--json` holds the hash, the counts, the estimate, the reasons and the changes with before and after."""
    told = json.loads(qadzd("show", "latest", "--flow", "default", "--limit", "1000", "--json"))
    assert (told["plan_id"], told["plan_hash"], told["change_count"]) == (plan.plan_id, plan.plan_hash, plan.changes)
    assert len(told["changes"]) == plan.changes
    assert told["estimate"]["calls"] > 0
    created = next(one for one in told["changes"] if one["action"] == "created")
    assert created["difference"]["name"][0] is None


@pytest.mark.parametrize("words", [("show", "999"), ("show", "soon"), ("show", "latest", "--flow", "nobody")])
def test_a_plan_that_is_not_there_is_told(words: tuple[str, ...], qadzd: Any, plan: Plan) -> None:
    """A wrong number or flow is one sentence and a failed command."""
    with pytest.raises(SystemExit, match=r"There is no (plan 999|flow)|'soon' is no plan"):
        qadzd(*words)


def test_a_scheduled_plan_is_approved_and_applied(
    qadzd: Any, dags: dict[str, DAG], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `[qadzd] mode` approve a run sends nothing; after `plan apply` the triggered run sends all of it."""
    monkeypatch.setenv("AIRFLOW__QADZD__MODE", "approve")
    run(dags["qadzd_onboard"], run_conf=NO_TEST_DELIVERY)
    first = run(dags[ACCOUNTS])
    writes = sandbox.get_control("/_sandbox/stats")["zendesk_writes"]
    number = returned(first, "plan")["plan_id"]
    assert returned(first, "apply")["zendesk_writes"] == 0
    assert "1 changes" not in qadzd("show", str(number))
    told = qadzd("apply", str(number))
    assert f"Plan {number} is approved" in told
    # A scheduled run in between leaves the approved plan alone.
    between = run(dags[ACCOUNTS])
    assert returned(between, "plan")["plan_id"] == number
    assert sandbox.get_control("/_sandbox/stats")["zendesk_writes"] == writes
    applied = run(dags[ACCOUNTS], run_conf={"plan_id": number, "mode": "apply_reviewed", "skip_moved": False})
    assert returned(applied, "apply")["outcomes"]["organization"] == {"created": 39, "adopted": 1}
    assert "applied" in qadzd("list")
    with pytest.raises(SystemExit, match="applied already"):
        qadzd("apply", str(number))


def test_an_unknown_mode_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt option or parameter names itself and what it may be."""
    monkeypatch.setenv("AIRFLOW__QADZD__MODE", "aprove")
    with pytest.raises(FixFirst, match=r"\[qadzd\] mode is 'aprove'.*apply, dry_run, approve"):
        plan_mode("configured")
    assert plan_mode("dry_run") == "dry_run"
    assert planned
