"""What the state machine found, each as a small story."""

from __future__ import annotations

from tests.sync.test_collisions import change_customer, in_zendesk
from tests.sync.world import World


def test_a_suffix_goes_once_the_plain_name_is_free(synced: World) -> None:
    """When whoever held the plain name is renamed, the organization that wants it gets it, without any other change."""
    assert synced.organizations()["C0000206"]["name"] == "Harrow & Pike Ltd (C0000206)"
    change_customer(synced, "C0000205", name="Harrow Ltd")
    synced.sync()
    synced.sync()
    assert synced.organizations()["C0000206"]["name"] == "Harrow & Pike Ltd"
    synced.count_anew()
    assert (synced.sync()[0].changes, synced.writes()) == (0, 0)


def test_a_suffix_that_stays_costs_no_write(synced: World) -> None:
    """While the plain name is held, nothing is tried."""
    synced.sync()
    assert (synced.sync()[0].changes, synced.writes()) == (0, 0)


def test_who_is_no_agent_any_more_is_not_called_one(synced: World) -> None:
    """Once the reason for setting a record aside is gone, the ledger does not say it any longer."""
    user = synced.users()["50006"]["id"]
    for role, outcome in (("agent", "set_aside"), ("end-user", "unchanged")):
        in_zendesk(synced, "PUT", f"/users/{user}", {"user": {"role": role}})
        plan, _ = synced.sync()
        assert sum(plan.counts["user"].values()) == 15
        assert synced.outcomes()["user", "50006"][0] == outcome
    assert synced.rows("audit_entry", kind="user", record_key="50006")[-1]["event"] == "unchanged"


def test_a_deleted_organization_of_nobody_holds_no_name(synced: World) -> None:
    """An organization that was not ours and was deleted is noticed within a day as well: its name is free."""
    change_customer(synced, "C0000212", name="Walk-in enquiries")
    synced.sync()
    assert synced.organizations()["C0000212"]["name"] == "Walk-in enquiries (C0000212)"
    in_zendesk(synced, "DELETE", f"/organizations/{synced.organizations()['Walk-in enquiries']['id']}")
    synced.clock.sleep(86_400)
    synced.sync()
    assert synced.organizations()["C0000212"]["name"] == "Walk-in enquiries"
