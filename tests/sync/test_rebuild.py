"""A ledger that was lost: its links are found again by Zendesk's external ids, and Zendesk is only read."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger.applying import take_applier
from airflow_provider_qadzd.sync.rebuild import Rebuilt, rebuild
from tests.sync.test_collisions import change_customer, in_zendesk
from tests.sync.world import RULES, World

REMEMBERED = ("link", "mirror", "wanted", "qad_record", "qad_contact_of", "export_cursor", "change_item", "audit_entry")


def lose(world: World) -> None:
    """All that was remembered is gone; which flow it was is known again by its name."""
    with world.ledger.writing() as tx:
        for table in REMEMBERED:
            tx.exec_driver_sql(f"DELETE FROM qadzd_{table}")  # noqa: S608
        tx.exec_driver_sql("UPDATE qadzd_flow SET mapping_digest = ''")
    world.count_anew()
    world.clock.sleep(130)


def rebuilt(world: World) -> Rebuilt:
    """As the command does it."""
    world.collect(full=True)
    return rebuild(world.ledger, world.flow, world.zendesk, RULES, "rebuild")


def links(world: World) -> set[tuple[Any, ...]]:
    """Every link, with what it joins."""
    return {(row["kind"], row["record_key"], row["other_key"], row["zendesk_id"]) for row in world.rows("link")}


def of_records(found: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """The links of organizations and users."""
    return {one for one in found if one[0] in ("organization", "user")}


def test_a_lost_ledger_is_rebuilt_and_the_next_run_does_nothing(synced: World) -> None:
    """Every link is there again, nothing was written in Zendesk, and a usual run finds nothing to do."""
    before = links(synced)
    lose(synced)
    found = rebuilt(synced)
    after = links(synced)
    assert of_records(after) == of_records(before)
    assert {one[:3] for one in after} == {one[:3] for one in before}
    assert found.links == {"organization": 12, "user": 13, "membership": len(before) - 25}
    assert found.alone == {"organization": 0, "user": 2}  # a colleague's mailbox, and a shared one
    plan, report = synced.sync()
    assert (plan.changes, report["zendesk_writes"], synced.writes()) == (0, 0, 0)


def test_every_link_is_audited_as_rebuilt(synced: World) -> None:
    """The audit says of each link that it was adopted, and why."""
    lose(synced)
    rebuilt(synced)
    told = {(row["event"], row["detail"]["detail"]) for row in synced.rows("audit_entry")}
    assert told == {("adopted", "rebuilt")}
    assert len(synced.rows("audit_entry")) == len(synced.rows("link"))


def test_a_true_difference_is_left_to_the_next_run(synced: World) -> None:
    """What QAD changed, and what somebody changed in Zendesk while the ledger was lost, the next run writes."""
    change_customer(synced, "C0000202", city="Elsewhere")
    edited = synced.organizations()["C0000204"]["id"]
    in_zendesk(synced, "PUT", f"/organizations/{edited}", {"organization": {"name": "Nobody's name"}})
    lose(synced)
    rebuilt(synced)
    _, report = synced.sync()
    assert report["outcomes"] == {"organization": {"updated": 2}}
    assert synced.organizations()["C0000202"]["organization_fields"]["qad_city"] == "Elsewhere"
    assert synced.organizations()["C0000204"]["name"] != "Nobody's name"


def test_the_user_of_a_shared_mailbox_is_the_one_it_was(synced: World) -> None:
    """Of the contacts who share a mailbox, the one whose key the user carries has it, whoever would be first now."""
    synced.sandbox.post_control("contacts", {"id": 50003, "primary": False})
    synced.sandbox.post_control("contacts", {"id": 50004, "primary": True})
    lose(synced)
    rebuilt(synced)
    (user,) = synced.rows("link", kind="user", record_key="50003")
    assert user["zendesk_id"] == synced.users()["50003"]["id"]
    assert synced.sync()[0].changes == 0
    assert synced.outcomes()["user", "50004"] == ("shared_with", "50003")


def test_a_second_address_is_found_again(synced: World) -> None:
    """An email that was added as a second one is found in the user's own list, and not added once more."""
    synced.sandbox.post_control("contacts", {"id": 50001, "email": "new.address@northwind.example"})
    synced.sync()
    lose(synced)
    assert rebuilt(synced).links["identity"] == 1
    assert (synced.sync()[0].changes, synced.writes()) == (0, 0)


def test_twins_are_told_apart_by_their_spelling(synced: World) -> None:
    """Of two codes that differ by case, the one that the record in Zendesk spells has it again."""
    synced.sandbox.post_control("customers", {"code": "c0000201", "name": "Another company"})
    synced.sync()
    before = of_records(links(synced))
    lose(synced)
    rebuilt(synced)
    assert of_records(links(synced)) == before
    synced.sync()
    assert synced.outcomes()["organization", "c0000201"] == ("set_aside", "case_twin of C0000201")


def test_staff_are_not_linked(synced: World) -> None:
    """A user of ours who has become an agent meanwhile is nobody's."""
    user = synced.users()["50005"]["id"]
    in_zendesk(synced, "PUT", f"/users/{user}", {"user": {"role": "agent"}})
    lose(synced)
    rebuilt(synced)
    assert not synced.rows("link", kind="user", record_key="50005")


def test_what_is_known_stays(synced: World) -> None:
    """A ledger brought back from an old copy keeps the links it has, and gets those it lacks."""
    before = links(synced)
    with synced.ledger.writing() as tx:
        tx.exec_driver_sql("DELETE FROM qadzd_link WHERE record_key IN ('C0000202', '50001')")
    synced.clock.sleep(130)
    found = rebuilt(synced)
    assert of_records(links(synced)) == of_records(before)
    assert sum(found.links.values()) == len(links(synced)) == len(before)
    again = links(synced)
    assert rebuilt(synced) == found
    assert links(synced) == again


def test_a_rebuild_that_was_stopped_goes_on(synced: World) -> None:
    """A rebuild that was stopped while it read the users does not read the organizations again."""
    lose(synced)
    synced.fault("GET /api/v2/incremental/users/cursor", action="status", status=503, times=20)
    with pytest.raises(TryLater):
        rebuilt(synced)
    synced.sandbox.delete_control("faults")
    synced.count_anew()
    found = rebuilt(synced)
    assert found.links["organization"] == 12
    assert synced.calls()["GET /api/v2/incremental/organizations"] == 1
    assert (synced.sync()[0].changes, synced.writes()) == (0, 0)


def test_a_rebuild_waits_for_a_run_that_applies(synced: World) -> None:
    """No link is written beside a run that applies changes at that moment."""
    lose(synced)
    take_applier(synced.ledger, synced.flow.account_id, "another", 3000.0)
    with pytest.raises(TryLater, match="another"):
        rebuilt(synced)
    assert not links(synced)


def test_a_ledger_is_rebuilt_on_either_database(either: World) -> None:
    """The links of a lost ledger are found again, and the next run does nothing."""
    either.sync()
    before = {(row["kind"], row["record_key"], row["other_key"]) for row in either.rows("link")}
    lose(either)
    rebuilt(either)
    assert {(row["kind"], row["record_key"], row["other_key"]) for row in either.rows("link")} == before
    assert (either.sync()[0].changes, either.writes()) == (0, 0)
