"""`airflow qadzd story`, `why`, `replay` and `forget`, the two DAGs of the audit, and clearing, in a real Airflow."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

import pytest
from airflow.sdk import DAG

from airflow_provider_qadzd.sandbox import Sandbox
from tests.edge.test_dags import NO_TEST_DELIVERY, dags, returned, run
from tests.edge.test_doctor import qadzd

__all__ = ["dags"]
pytestmark = pytest.mark.usefixtures("airflow_database")


@pytest.fixture
def synced(dags: dict[str, DAG], sandbox: Sandbox) -> Iterator[Sandbox]:
    """A flow after its first run."""
    run(dags["qadzd_onboard"], run_conf=NO_TEST_DELIVERY)
    run(dags["qadzd_sync_accounts"])
    return sandbox


def told(*words: str, code: int = 0) -> str:
    """What a command prints, which ends with that code."""
    done = qadzd(*words)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def test_story_and_why_at_a_terminal(synced: Sandbox) -> None:
    """Text that can be read, JSON that can be parsed, near keys and exit 1 for a key that nobody knows."""
    text = told("story", "C0000201", "--flow", "default")
    assert text.startswith("Customer C0000201 (default)")
    assert "[qadzd_sync_accounts/" in text
    (story,) = json.loads(told("story", "C0000201", "--json"))
    assert story["steps"][-1]["told"] == "created"
    assert "Near: C00002" in told("story", "C00002x1", code=1)
    assert "staff are never written" in told("why", "50002")
    summary = told("why")
    assert "of_staff" in summary
    assert {one["code"] for one in json.loads(told("why", "--json"))} == {"of_staff", "shared_with"}
    assert "Known: default" in told("why", "--flow", "other", code=1)


def test_a_customers_tickets_at_a_terminal(
    dags: dict[str, DAG], synced: Sandbox, ledger_file: sqlite3.Connection
) -> None:
    """Their numbers and one line a ticket, the same as JSON, and exit 1 for a customer without tickets."""
    run(dags["qadzd_export_tickets"])
    counted = (
        "SELECT customer_key, count(*) FROM qadzd_ticket WHERE customer_key > '' AND NOT gone GROUP BY 1 ORDER BY 2"
    )
    customer, count = ledger_file.execute(counted).fetchall()[-1]
    lines = told("tickets", customer).splitlines()
    assert lines[0].startswith(f"Customer {customer} (default): ")
    assert len(lines) == 2 + count
    (found,) = json.loads(told("tickets", customer, "--json", "--limit", "1"))
    assert found["open_tickets"] + found["solved_tickets"] == count
    assert len(found["tickets"]) == 1
    assert "No ticket is tied to customer C9" in told("tickets", "C9", code=1)


def test_replay_at_a_terminal_and_as_a_dag(
    dags: dict[str, DAG], synced: Sandbox, ledger_file: sqlite3.Connection
) -> None:
    """Both choose the same; without a choice both refuse, and a replay of what is in order writes nothing."""
    assert "default: 1 records (user 50002) will be decided again" in told("replay", "50002")
    assert "1 records (user 50002)" in told("replay", "--reason", "email_of_agent")
    assert "Nothing says what to replay" in told("replay", code=1)
    synced.post_control("/_sandbox/reset-stats", {})
    result = run(dags["qadzd_replay"], run_conf={"reason": "email_of_agent"})
    assert returned(result, "replay")["examples"] == ["user 50002"]
    assert returned(result, "apply")["zendesk_writes"] == 0
    assert synced.get_control("/_sandbox/stats")["zendesk_writes"] == 0
    runs = ledger_file.execute("SELECT run FROM qadzd_audit_entry WHERE event = 'replayed' ORDER BY audit_id")
    assert [one.split("/")[0] for (one,) in runs] == ["airflow qadzd replay", "airflow qadzd replay", "qadzd_replay"]


def test_the_ledger_is_tidied_daily(dags: dict[str, DAG], synced: Sandbox, ledger_file: sqlite3.Connection) -> None:
    """The DAG deletes what is older than its settings say, and no more."""
    old = "UPDATE qadzd_change_item SET ended_at = '2020-01-01T00:00:00.000Z' WHERE kind = 'organization'"
    changed = ledger_file.execute(old).rowcount
    ledger_file.commit()
    gone = returned(run(dags["qadzd_maintain"]), "tidy")
    assert gone == {"inbox": 0, "audit_entry": 0, "change_item": changed, "plan": 0}
    assert changed == 40


def test_forget_is_dry_until_it_is_told_to_do_it(synced: Sandbox, ledger_file: sqlite3.Connection) -> None:
    """Without --yes nothing changes; with it, it says what is left to do, and once more when it was done."""
    person = "SELECT count(*) FROM qadzd_wanted WHERE record_key = '50001'"
    assert "Nothing was done" in told("forget", "50001")
    assert ledger_file.execute(person).fetchone() == (1,)
    ledger_file.close()
    text = told("forget", "50001", "--yes")
    assert "known from now on as forgotten-" in text
    assert "in Zendesk, user" in text
    assert "contact 50001 was forgotten on" in told("forget", "50001").lower()
    assert "was forgotten on" in told("why", "50001", code=1)
    assert "knows no" in told("forget", "nobody", code=1)


def test_plan_and_apply_once_more_without_reading_do_no_harm(dags: dict[str, DAG], synced: Sandbox) -> None:
    """As after clearing the two tasks of a finished run: nothing is written, and nothing in Zendesk differs."""
    before = synced.get_control("/_sandbox/state")
    result = run(dags["qadzd_sync_accounts"], mark_success_pattern="collect|mirror")
    assert returned(result, "plan")["changes"] == returned(result, "apply")["zendesk_writes"] == 0
    after = synced.get_control("/_sandbox/state")
    for kind in ("organizations", "users", "organization_memberships"):
        assert after[kind] == before[kind]
