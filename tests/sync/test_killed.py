"""A worker killed in the middle of apply, by SIGKILL: run again, no duplicate, no gap, nothing falsely set aside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.sync.draft import Plan
from tests.sync.test_faults import whole
from tests.sync.world import KEY, World

ORGANIZATIONS, USERS = "POST /api/v2/organizations/create_many", "POST /api/v2/users/create_many"
ADOPTIONS, MEMBERSHIPS = "PUT /api/v2/users/update_many", "POST /api/v2/organization_memberships/create_many"
SINGLE = "POST /api/v2/users"


def worker_of(world: World, what: str, owner: str, *more: str) -> subprocess.Popen[str]:
    """Another process that applies a plan (`apply`) or does a whole run (`run`) in this world."""
    token = world.zendesk._session.auth._credentials.access_token()  # type: ignore[union-attr]
    ledger = world.ledger.engine.url.render_as_string(hide_password=False)
    ahead = str(world.ledger.clock.time() - time.time())
    like = ["--organization", world.rules.organization, "--user", world.rules.user, "--ahead", ahead]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.sync.worker", what, world.sandbox.url, ledger, token, owner, *like, *more],
        cwd=Path(__file__).parents[2], env={**os.environ, "WORLD_KEY": KEY}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def killed_when(world: World, plan: Plan, reached: Callable[[], bool]) -> None:
    """Apply the plan in another process and kill it at once when it has got that far."""
    with worker_of(world, "apply", "first", "--plan-id", str(plan.plan_id)) as worker:
        until = time.monotonic() + 30
        while not reached():
            assert worker.poll() is None, "the worker has ended by itself"
            assert time.monotonic() < until, "the worker does not get that far"
            time.sleep(0.01)
        worker.send_signal(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL


def planned(world: World) -> Plan:
    """A plan of the first run."""
    world.collect()
    world.mirror()
    return world.plan()


def fired(world: World) -> int:
    """How many calls a fault has caught."""
    return sum(rule["fired"] for rule in world.sandbox.get_control("faults")["faults"])


@pytest.mark.parametrize("owner", ["first", "second"], ids=["the same run again", "the next run"])
@pytest.mark.parametrize("call", [ORGANIZATIONS, USERS, ADOPTIONS, MEMBERSHIPS], ids=["o", "u", "a", "m"])
def test_killed_before_the_answer(small: World, call: str, owner: str) -> None:
    """Killed while Zendesk has the request and has not answered: what it does later is found, or no repeat gets in.

    It may do it in the very moment of the next try; what that try then leaves for later, the run after it does.
    """
    plan = planned(small)
    small.fault(call, action="delay", seconds=0.6)
    killed_when(small, plan, lambda: fired(small) == 1)
    states = {row["change_state"] for row in small.rows("change_item") if row["job_id"] == ""}
    assert "sent" in states
    if owner == "second":
        with pytest.raises(TryLater, match="first"):
            small.applier(plan, owner).step()
        small.clock.ahead = 301.0
    small.apply_through(plan, owner)
    time.sleep(0.7)
    small.sync(owner)
    whole(small)


@pytest.mark.parametrize("call", [ORGANIZATIONS, USERS], ids=["organizations", "users"])
def test_killed_after_the_request_took_effect(small: World, call: str) -> None:
    """Killed before the answer, and Zendesk did it meanwhile: the next try finds it and sends nothing again."""
    plan = planned(small)
    small.fault(call, action="delay", seconds=0.3)
    killed_when(small, plan, lambda: fired(small) == 1)
    time.sleep(0.5)
    small.apply_through(plan, "first")
    assert small.calls()[call] == 1
    assert small.calls()["POST /api/v2/organizations"] == small.calls()["POST /api/v2/users"] == 0
    whole(small)


@pytest.mark.parametrize("owner", ["first", "second"], ids=["the same run again", "the next run"])
def test_killed_while_the_job_runs(small: World, owner: str) -> None:
    """Killed after the job was accepted and before it has finished: it is waited for, and nothing is sent again."""
    plan = planned(small)
    small.settings(job_delay=90)
    killed_when(small, plan, lambda: small.calls()[ORGANIZATIONS] == 1)
    assert len(small.organizations()) == 2
    small.settings(job_delay=0)
    small.clock.ahead = 301.0 if owner == "second" else 0.0
    small.apply_through(plan, owner)
    assert small.calls()[ORGANIZATIONS] == 1
    assert small.calls()["POST /api/v2/organizations"] == 0
    whole(small)


def test_killed_in_the_middle_of_single_calls(small: World) -> None:
    """Killed between and during single calls: each user is there once."""
    small.settings(bulk_import=False)
    plan = planned(small)
    small.fault(SINGLE, action="delay", seconds=0.3, skip=3)
    killed_when(small, plan, lambda: fired(small) == 1)
    small.apply_through(plan, "first")
    time.sleep(0.4)
    whole(small)


def test_killed_again_and_again(small: World) -> None:
    """Killed in each stage, one after the other, everything is there once in the end."""
    plan = planned(small)
    for call in (ORGANIZATIONS, USERS, MEMBERSHIPS):
        small.fault(call, action="delay", seconds=0.2)
        before = fired(small)
        killed_when(small, plan, lambda before=before: fired(small) > before)  # type: ignore[misc]
    time.sleep(0.3)
    small.apply_through(plan, "first")
    whole(small)
