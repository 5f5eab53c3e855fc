"""The journey out, run after run: what a first run makes, what a second leaves alone, what a change in QAD does."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_qadzd.errors import FixFirst, UnsafePlan
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sync.plan import Brake
from tests.sync.world import World, world_of

SHARED = "purchasing@brightwater-buying.example"
AGENT = "mina.walsh@support-desk.example"


def test_the_first_run_makes_what_the_seed_calls_for(world: World) -> None:
    """Every customer has its organization and every contact a user of its own, a shared one, or a reason for none."""
    before = {row["id"]: row for row in world.there()["users"]}
    adoptable = next(row for row in world.there()["organizations"] if row["notes"] == "Made by hand.")
    plan, report = world.sync()
    organizations, users, outcomes = world.organizations(), world.users(), world.outcomes()
    there = world.there()

    # one organization a customer, and one that QAD knows nothing of
    assert set(organizations) == {row["code"] for row in there["qad"]["customers"]} | {"Walk-in enquiries"}
    assert organizations["Walk-in enquiries"]["organization_fields"].get("qad_customer") is None
    # names that collide
    assert organizations["C0000205"]["name"] == "Harrow & Pike Ltd"
    assert organizations["C0000206"]["name"] == "Harrow & Pike Ltd (C0000206)"
    # an organization that somebody made by hand is this customer's
    assert organizations["C0000203"]["id"] == adoptable["id"]
    assert organizations["C0000203"]["notes"] == "Made by hand."
    assert organizations["C0000203"]["tags"] == ["vip"]
    assert outcomes["organization", "C0000203"][0] == "adopted"
    # what its fields say
    inactive = [key for key, row in organizations.items() if row["organization_fields"].get("qad_status") == "inactive"]
    assert inactive == ["C0000208"]
    link = organizations["C0000201"]["organization_fields"]["qad_link"]
    assert link == "https://qad.example/clouderp/customers/C0000201"
    assert organizations["C0000201"]["organization_fields"]["qad_customer"] == "C0000201"

    # requesters who wrote before the first sync are adopted, with their ids and emails
    adopted = [key for (kind, key), (outcome, _) in outcomes.items() if (kind, outcome) == ("user", "adopted")]
    assert len(adopted) == 50
    assert all(before[users[key]["id"]]["email"] == users[key]["email"] for key in adopted)
    # a shared mailbox is one user in both organizations
    assert outcomes["user", "50004"] == ("shared_with", "50003")
    assert users["50003"]["email"] == SHARED
    assert "50004" not in users
    assert world.homes(users["50003"]["id"]) == {"C0000203", "C0000204"}
    # one contact of two customers is one user in both
    assert world.homes(users["50001"]["id"]) == {"C0000201", "C0000210"}
    # without an email, and with a malformed one: a user without email
    assert users["50005"]["email"] is None
    assert users["50009"]["email"] is None
    # the agent is set aside, and untouched byte for byte
    agent = users[AGENT]
    assert outcomes["user", "50002"] == ("set_aside", f"email_of_agent {agent['id']}")
    assert agent == before[agent["id"]]
    assert not world.homes(agent["id"])
    assert [row for row in there["users"] if row["role"] != "end-user"] == [
        row for row in before.values() if row["role"] != "end-user"
    ]
    # no mail
    assert world.sandbox.get_control("stats")["verification_mails"] == 0
    assert "1 set_aside" in plan.summary()
    assert report["outcomes"]["organization"] == {"created": 39, "adopted": 1}
    assert report["outcomes"]["user"] == {"created": 68, "adopted": 50}


def test_every_record_has_one_outcome(world: World) -> None:
    """After a run, each planned change has exactly one outcome, and each wanted record remembers what became of it."""
    world.sync()
    assert all(outcome for outcome, _ in world.outcomes().values())
    changes = world.rows("change_item")
    assert {row["change_state"] for row in changes} == {"done"}
    assert all(row["outcome"] for row in changes)
    targets = [(row["kind"], row["target"]) for row in changes]
    assert len(targets) == len(set(targets))


def test_a_second_run_writes_nothing(world: World) -> None:
    """Where nothing has changed, a run plans nothing, says so, and Zendesk is asked for no write at all."""
    world.sync()
    world.count_anew()
    before = world.there()
    plan, report = world.sync()
    assert (plan.changes, world.writes()) == (0, 0)
    assert report == {"outcomes": {}, "zendesk_writes": 0}
    after = world.there()
    assert {k: v for k, v in after.items() if k != "now"} == {k: v for k, v in before.items() if k != "now"}
    assert plan.summary() == (
        "Nothing to do, no change is planned (organization: 40 unchanged; user: 118 unchanged, 1 set_aside, "
        "1 shared_with)."
    )


def test_a_memory_lost_is_found_again(small: World, ledger_path: Path) -> None:
    """A ledger that was lost is filled again from Zendesk's external ids, without a write."""
    small.sync()
    small.count_anew()
    with small.ledger.writing() as tx:
        for table in ("link", "mirror", "wanted", "qad_read", "qad_record", "export_cursor", "change_item"):
            tx.exec_driver_sql(f"DELETE FROM qadzd_{table}")  # noqa: S608
        tx.exec_driver_sql("UPDATE qadzd_flow SET mapping_digest = ''")
    small.clock.sleep(130)
    small.collect()
    small.mirror()
    plan = small.plan()
    assert set(plan.counts["organization"]) == {"adopted", "unchanged"}
    assert plan.counts["organization"]["adopted"] == 12
    assert plan.counts["user"]["adopted"] == 13
    small.apply(plan)
    users = {row["external_id"] for row in small.there()["users"]}
    assert small.calls()["POST /api/v2/users"] == 0
    assert {"50001", "50003"} <= users
    # memberships are looked for, and found
    assert {row["outcome"] for row in small.rows("change_item")} <= {"adopted", "membership_added"}
    assert small.calls()["POST /api/v2/organizations"] == 0


def test_a_renamed_customer_is_one_update(synced: World) -> None:
    """A change in QAD is one update of one record, with what was there before and after in the audit."""
    synced.sandbox.post_control("customers", {"code": "C0000202", "name": "Åkesson Precision AB"})
    plan, report = synced.sync()
    assert plan.changes == 1
    assert report["outcomes"] == {"organization": {"updated": 1}}
    assert synced.writes() == 1
    assert synced.organizations()["C0000202"]["name"] == "Åkesson Precision AB"
    told = synced.rows("audit_entry", kind="organization", record_key="C0000202", event="updated")
    assert [row["detail"]["changed"] for row in told] == [{"name": ["Åkesson Verktyg AB", "Åkesson Precision AB"]}]
    assert synced.sync()[0].changes == 0


def test_a_changed_function_is_one_update(synced: World) -> None:
    """A contact's new function is one update of that user and of nobody else."""
    synced.sandbox.post_control("contacts", {"id": 50005, "function": "Chief buyer"})
    before = synced.users()
    plan, _ = synced.sync()
    assert (plan.changes, synced.writes()) == (1, 1)
    after = synced.users()
    assert after["50005"]["user_fields"]["qad_function"] == "Chief buyer"
    assert {key: row for key, row in after.items() if row != before[key]}.keys() == {"50005"}


def test_an_inactive_customer_says_so(synced: World) -> None:
    """A customer that QAD makes inactive keeps its organization, whose field says inactive."""
    synced.sandbox.post_control("customers", {"code": "C0000201", "active": False})
    synced.sync()
    assert synced.organizations()["C0000201"]["organization_fields"]["qad_status"] == "inactive"


def test_a_changed_email_becomes_a_second_one(synced: World) -> None:
    """A changed email is added to the user and the primary one stays; the next run writes nothing."""
    user = synced.users()["50001"]
    synced.sandbox.post_control("contacts", {"id": 50001, "email": "new.address@northwind.example"})
    plan, _ = synced.sync()
    assert plan.counts["identity"] == {"added": 1}
    assert synced.writes() == 1
    there = synced.there()
    emails = {row["value"]: row["primary"] for row in there["identities"] if row["user_id"] == user["id"]}
    assert emails == {user["email"]: True, "new.address@northwind.example": False}
    assert synced.sandbox.get_control("stats")["verification_mails"] == 0
    synced.count_anew()
    assert (synced.sync()[0].changes, synced.writes()) == (0, 0)


def test_a_first_email_is_added(synced: World) -> None:
    """A contact who gets a first email gets it in Zendesk as the primary one."""
    synced.sandbox.post_control("contacts", {"id": 50005, "email": "found@somewhere.example"})
    synced.sync()
    assert synced.users()["50005"]["email"] == "found@somewhere.example"
    assert synced.sync()[0].changes == 0


def test_a_moved_contact_gets_the_new_membership(synced: World) -> None:
    """A contact who moves to another customer becomes a member there, once, and then is at home there."""
    user = synced.users()["50006"]
    (old,) = synced.homes(user["id"])
    synced.sandbox.post_control("contacts", {"id": 50006, "customers": ["C0000209"]})
    plan, _ = synced.sync()
    assert plan.counts["membership"] == {"added": 1}
    assert synced.homes(user["id"]) == {old, "C0000209"}
    assert synced.writes() == 1
    assert synced.sync()[0].counts["membership"] == {"made_default": 1}
    assert synced.sync()[0].changes == 0


def test_a_new_contact_starts_where_qad_has_it_now(small: World) -> None:
    """A user is created in an organization of the last complete read, not in one that the contact has left."""
    small.collect()
    small.sandbox.post_control("contacts", {"id": 50006, "customers": ["C0000212"]})
    small.sync()
    assert small.homes(small.users()["50006"]["id"]) == {"C0000212"}


def test_a_case_twin_is_set_aside(synced: World) -> None:
    """A newcomer whose code differs only by case from a linked one is set aside, and the linked one stays."""
    synced.sandbox.post_control("customers", {"code": "c0000201", "name": "Another company"})
    before = synced.organizations()["C0000201"]
    plan, _ = synced.sync()
    assert synced.outcomes()["organization", "c0000201"] == ("set_aside", "case_twin of C0000201")
    assert plan.counts["organization"]["set_aside"] == 1
    assert (synced.writes(), synced.organizations()["C0000201"]) == (0, before)


def test_two_unlinked_case_twins_both_wait(small: World) -> None:
    """Two new codes that Zendesk could not tell apart are both set aside."""
    small.sandbox.post_control("customers", {"code": "c0000201", "name": "Another company"})
    small.sync()
    twins = {key: small.outcomes()["organization", key] for key in ("C0000201", "c0000201")}
    assert twins == {
        "C0000201": ("set_aside", "case_twin of c0000201"),
        "c0000201": ("set_aside", "case_twin of C0000201"),
    }
    assert "C0000201" not in small.organizations()


def test_a_dry_run_sends_and_leaves_nothing(small: World) -> None:
    """A dry run counts and hashes the plan, asks Zendesk for no write, and nothing of it is planned afterwards."""
    small.collect()
    small.mirror()
    plan = small.plan("dry_run")
    assert plan.changes > 20
    assert {row["change_state"] for row in small.rows("change_item")} == {"done"}
    assert {row["outcome"] for row in small.rows("change_item")} == {"superseded"}
    assert small.apply(plan)["zendesk_writes"] == 0
    assert small.writes() == 0
    assert small.plan("dry_run").plan_hash == plan.plan_hash


def test_a_new_plan_ends_the_old_one(small: World) -> None:
    """What an earlier plan did not send is superseded by the next, which plans it again."""
    small.collect()
    small.mirror()
    first, second = small.plan(), small.plan()
    assert (second.changes, second.plan_hash) == (first.changes, first.plan_hash)
    states = {(row["plan_id"], row["change_state"], row["outcome"]) for row in small.rows("change_item")}
    assert states == {(first.plan_id, "done", "superseded"), (second.plan_id, "planned", "")}


def test_the_brake_stops_a_plan_that_changes_too_much(synced: World) -> None:
    """A plan over the brake is refused with its counts, and nothing of it stays planned."""
    for number in range(201, 207):
        synced.sandbox.post_control("customers", {"code": f"C0000{number}", "city": "Elsewhere"})
    synced.collect()
    with pytest.raises(UnsafePlan, match="6 updates of 25 linked records; the brake allows 5"):
        synced.plan(brake=Brake(share=0.2, floor=2))
    assert not [row for row in synced.rows("change_item") if row["change_state"] == "planned"]
    assert synced.writes() == 0
    assert synced.plan(brake=Brake(share=1.0)).changes == 6


def test_many_records_go_in_slow_jobs_of_a_hundred(sync_sandbox: Sandbox, ledger_path: Path) -> None:
    """More than a hundred records go in several jobs, which run for a while and are waited for."""
    with world_of(sync_sandbox, ledger_path, (230, 260, 20)) as world:
        world.settings(job_delay=20)
        plan, report = world.sync()
        assert plan.changes > 500
        assert len(world.organizations()) == 231
        assert report["outcomes"]["organization"] == {"created": 229, "adopted": 1}
        assert world.calls()["POST /api/v2/organizations/create_many"] == 3
        assert world.calls()["POST /api/v2/organizations"] == 0
        assert world.calls()["POST /api/v2/users"] == 0
        world.count_anew()
        assert (world.sync()[0].changes, world.writes()) == (0, 0)


def test_many_updates_go_in_jobs(sync_sandbox: Sandbox, ledger_path: Path) -> None:
    """More than a few updates go as jobs of at most a hundred, each row with its own outcome."""
    with world_of(sync_sandbox, ledger_path, (130, 0, 0)) as world:
        world.sync()
        for row in world.there()["qad"]["customers"]:
            world.sandbox.post_control("customers", {"code": row["code"], "city": "Elsewhere"})
        world.count_anew()
        world.collect()
        world.mirror()
        report = world.apply(world.plan(brake=Brake(share=1.0)))
        assert report["outcomes"] == {"organization": {"updated": 130}}
        assert world.writes() == 2
        cities = {
            row["organization_fields"]["qad_city"] for row in world.there()["organizations"] if row["external_id"]
        }
        assert cities == {"Elsewhere"}


def test_bulk_import_off_falls_back_to_single_calls(small: World) -> None:
    """Where Zendesk does not permit bulk import of users, they are created one by one."""
    small.settings(bulk_import=False)
    _, report = small.sync()
    created = report["outcomes"]["user"]["created"]
    calls = small.calls()
    assert calls["POST /api/v2/users"] == created > 3
    assert calls["POST /api/v2/users/create_many"] == 1
    small.count_anew()
    assert (small.sync()[0].changes, small.writes()) == (0, 0)


def test_fields_that_zendesk_drops_are_refused_before_the_first_write(
    sync_sandbox: Sandbox, ledger_path: Path
) -> None:  # fmt: skip
    """Zendesk drops fields that it does not know in silence, so the run stops, names them all, and writes nothing."""
    with world_of(sync_sandbox, ledger_path, (12, 15, 20), fields=False) as world:
        with pytest.raises(FixFirst, match=r"organization_fields\.qad_customer, .*qad_country.* qadzd_onboard"):
            world.sync()
        assert world.writes() == 0
        world.make_fields()
        world.sync()
        world.count_anew()
        assert (world.sync()[0].changes, world.writes()) == (0, 0)


def test_a_field_that_goes_missing_later_stops_the_next_write(synced: World) -> None:
    """A field deleted in Zendesk is no matter while nothing is written, and is named before anything is."""
    store = synced.sandbox.state.zendesk
    store.organization_fields = {n: row for n, row in store.organization_fields.items() if row["key"] != "qad_city"}
    assert (synced.sync()[0].changes, synced.calls()["GET /api/v2/organization_fields"]) == (0, 0)
    synced.sandbox.post_control("customers", {"code": "C0000202", "city": "Elsewhere"})
    with pytest.raises(FixFirst, match=r"organization_fields\.qad_city\."):
        synced.sync()
    assert synced.writes() == 0
