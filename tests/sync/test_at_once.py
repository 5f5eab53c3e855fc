"""Runs at the same time, in processes of their own: what one of them does, the others find done."""

from __future__ import annotations

from collections import Counter

from tests.sync.test_collisions import change_customer, in_zendesk
from tests.sync.test_faults import whole
from tests.sync.test_killed import worker_of
from tests.sync.world import World

RUNS = ("scheduled", "manual", "scheduled")
"""Owners: a scheduled run, one by hand, and a cleared task of the first, which bears its name."""


def at_once(world: World) -> None:
    """Three whole runs, begun together, to their ends."""
    workers = [worker_of(world, "run", owner) for owner in RUNS]
    told = [worker.communicate(timeout=60)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], told


def outcomes(world: World) -> Counter[tuple[str, str, str, str]]:
    """How often each record was told to have come to the same: kind, key, other key, outcome."""
    return Counter(
        (row["kind"], row["record_key"], row["detail"].get("other", ""), row["event"])
        for row in world.rows("audit_entry")
    )


def test_two_runs_a_cleared_task_and_a_manual_run_do_no_harm(either: World) -> None:
    """Everything is there once, every record has one outcome, and a following run writes nothing."""
    at_once(either)
    whole(either)
    assert {one: count for one, count in outcomes(either).items() if count > 1} == {}
    asked = either.rows("wanted")
    assert len(asked) == 27
    assert all(row["last_outcome"] for row in asked)
    made = [row for row in either.rows("change_item") if row["outcome"] in ("created", "membership_added")]
    assert len({(row["kind"], row["target"]) for row in made}) == len(made)


def test_updates_and_recreations_meet(either: World) -> None:
    """Changes on both sides, seen by all at once, are made once."""
    either.sync()
    before = either.there()
    for code in ("C0000202", "C0000203", "C0000204", "C0000205"):
        change_customer(either, code, city="Elsewhere")
    in_zendesk(either, "DELETE", f"/organizations/{either.organizations()['C0000206']['id']}")
    in_zendesk(either, "PUT", f"/users/{either.users()['50006']['id']}", {"user": {"name": "By hand"}})
    either.clock.sleep(86_400)
    at_once(either)
    after = either.there()
    assert len(after["organizations"]) == len(before["organizations"])
    assert len(after["users"]) == len(before["users"])
    assert "C0000206" in either.organizations()
    either.count_anew()
    assert (either.sync()[0].changes, either.writes()) == (0, 0)
