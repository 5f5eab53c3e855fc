"""What QAD has no more: believed only after days of complete full reads, and then said in Zendesk, never deleted."""

from __future__ import annotations

import pytest

from airflow_provider_qadzd.errors import UnsafePlan
from airflow_provider_qadzd.sync.absence import doubted
from airflow_provider_qadzd.sync.plan import Brake
from tests.sync.test_collisions import in_zendesk
from tests.sync.world import World

DAY = 86_400


def delete(world: World, kind: str, **which: object) -> None:
    """What a colleague deletes in QAD."""
    world.sandbox.post_control(kind, {**which, "delete": True})


def nights(world: World, count: int) -> None:
    """So many nightly runs, each a complete full read."""
    for _ in range(count):
        world.clock.sleep(DAY)
        world.sync(full=True)


def test_a_customer_gone_for_days_is_inactive(synced: World) -> None:
    """A customer that complete full reads have missed for 48 hours says inactive in field and tag; the rest stays."""
    before = synced.organizations()["C0000211"]
    in_zendesk(synced, "PUT", f"/organizations/{before['id']}", {"organization": {"tags": ["vip"]}})
    delete(synced, "customers", code="C0000211")
    nights(synced, 2)
    assert synced.organizations()["C0000211"]["organization_fields"]["qad_status"] == "active"
    nights(synced, 2)
    after = synced.organizations()["C0000211"]
    assert after["organization_fields"]["qad_status"] == "inactive"
    assert after["tags"] == ["qad_inactive", "vip"]
    assert (after["id"], after["name"]) == (before["id"], before["name"])
    assert synced.rows("audit_entry", kind="organization", record_key="C0000211", event="deactivated")
    synced.count_anew()
    assert (synced.sync()[0].changes, synced.writes()) == (0, 0)


def test_a_customer_that_comes_back_is_active_again(synced: World) -> None:
    """Whatever read sees it again, a customer that was gone is active at once, and our tag goes."""
    delete(synced, "customers", code="C0000211")
    nights(synced, 4)
    assert synced.organizations()["C0000211"]["tags"] == ["qad_inactive"]
    synced.sandbox.post_control("customers", {"code": "C0000211", "name": "Back again"})
    synced.sync()
    after = synced.organizations()["C0000211"]
    assert (after["organization_fields"]["qad_status"], after["tags"]) == ("active", [])


def test_a_customer_that_qad_finds_by_key_is_not_gone(synced: World) -> None:
    """A browse that leaves a customer out says nothing, as long as QAD finds it when asked by its key."""
    synced.qad = synced.qad_client(customer_filters=("customerV2.customerCode,lt,C0000211,literal",))
    nights(synced, 4)
    assert synced.organizations()["C0000211"]["organization_fields"]["qad_status"] == "active"
    assert synced.calls()["GET /clouderp/api/erp/customerV2s"] == 2
    synced.count_anew()
    nights(synced, 1)
    assert synced.calls()["GET /clouderp/api/erp/customerV2s"] == 0


def test_a_contact_gone_for_days_is_tagged(synced: World) -> None:
    """The user of a contact that QAD has no more is tagged and otherwise kept, its memberships too."""
    user = synced.users()["50006"]
    homes = synced.homes(user["id"])
    delete(synced, "contacts", id=50006)
    nights(synced, 2)
    assert synced.users()["50006"]["tags"] == []
    nights(synced, 1)
    after = synced.users()["50006"]
    assert (after["tags"], after["email"], synced.homes(user["id"])) == (["qad_inactive"], user["email"], homes)
    synced.count_anew()
    nights(synced, 1)
    assert synced.writes() == 0


def test_a_user_that_others_share_is_not_tagged(synced: World) -> None:
    """Where several contacts share a mailbox, their user is tagged only when the last of them is gone."""
    delete(synced, "contacts", id=50003)
    nights(synced, 4)
    assert synced.users()["50003"]["tags"] == []
    delete(synced, "contacts", id=50004)
    nights(synced, 5)
    assert synced.users()["50003"]["tags"] == ["qad_inactive"]


def test_what_ended_before_it_was_synced_is_not_made(small: World) -> None:
    """A contact that is gone and was never in Zendesk is not created."""
    small.sandbox.post_control("contacts", {"id": 60001, "name": "Brief Guest", "customers": ["C0000201"]})
    small.collect()
    delete(small, "contacts", id=60001)
    for _ in range(4):
        small.clock.sleep(DAY)
        small.collect(full=True)
    small.sync()
    assert small.outcomes()["user", "60001"] == ("set_aside", "ended_in_qad")
    assert "60001" not in small.users()


@pytest.mark.parametrize("how", ["empty", "shrinking", "broken off"])
def test_silence_deactivates_nothing(synced: World, how: str) -> None:
    """Empty, shrinking and incomplete reads conclude nothing, however often they come."""
    if how == "broken off":
        synced.qad = synced.qad_client(page_size=5, page_action_next="forward")
    else:
        last = "C0000200" if how == "empty" else "C0000203"
        synced.qad = synced.qad_client(
            customer_filters=(f"customerV2.customerCode,le,{last},literal",),
            contact_filters=(f"ad_mstr.ad_addr,le,{last},literal",),
        )
        for code in [row["code"] for row in synced.there()["qad"]["customers"] if row["code"] > last]:
            delete(synced, "customers", code=code)
    brake = Brake(deactivations_share=0.3, deactivations_floor=2)
    for _ in range(5):
        synced.clock.sleep(DAY)
        told = synced.collect(brake, full=True)
        assert [read.complete for read in told] == [False, False]
        assert all(read.reason for read in told)
    synced.mirror()
    plan = synced.plan()
    synced.apply(plan)
    assert (plan.changes, synced.writes()) == (0, 0)


def test_a_shrink_is_believed_when_it_is_released(synced: World) -> None:
    """Told that it is right, a smaller read is complete, and the next ones are measured by it."""
    for code in ("C0000210", "C0000211", "C0000212"):
        delete(synced, "customers", code=code)
    tight = Brake(deactivations_share=0.1, deactivations_floor=1)
    synced.clock.sleep(DAY)
    assert "release_brake" in synced.collect(tight, full=True)[0].reason
    assert synced.collect(Brake.released(), full=True)[0].complete
    assert synced.collect(tight, full=True)[0].complete


@pytest.mark.parametrize(
    ("rows", "before", "doubt"),
    [
        pytest.param(100, None, False, id="the first read"),
        pytest.param(0, 0, False, id="nothing, as before"),
        pytest.param(90, 100, False, id="at the share"),
        pytest.param(89, 100, True, id="one under"),
        pytest.param(0, 1, True, id="none where there was one, whatever the floor"),
        pytest.param(6, 10, False, id="within the floor"),
        pytest.param(200, 100, False, id="grown"),
    ],
)
def test_which_reads_are_doubted(rows: int, before: int | None, doubt: bool) -> None:
    """A read may shrink by as much as may be deactivated, and is never believed when it is empty all at once."""
    brake = Brake(deactivations_share=0.1, deactivations_floor=4)
    assert bool(doubted(rows, before, brake)) is doubt


def test_the_brake_on_deactivations(synced: World) -> None:
    """More deactivations than their own brake allows stop the plan, whatever the brake on updates allows."""
    for number in range(201, 207):
        synced.sandbox.post_control("customers", {"code": f"C0000{number}", "active": False})
    synced.collect()
    with pytest.raises(UnsafePlan, match=r"6 deactivations of 25 linked records; the brake allows 5.*release_brake"):
        synced.plan(brake=Brake(share=1.0, deactivations_share=0.2, deactivations_floor=2))
    assert not [row for row in synced.rows("change_item") if row["change_state"] == "planned"]
    assert synced.plan(brake=Brake.released()).counts["organization"]["deactivated"] == 6


def test_a_customer_whose_row_cannot_be_read_is_there(synced: World) -> None:
    """A row with a value that nobody can read makes the read incomplete, so that its record never counts as missing."""
    synced.sandbox.post_control("customers", {"code": "C0000211", "active": "perhaps"})
    synced.clock.sleep(DAY)
    customers, _ = synced.collect(full=True)
    assert (customers.complete, customers.reason) == (False, "1 rows have values that cannot be read")
