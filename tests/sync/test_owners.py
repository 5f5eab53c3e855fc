"""Each owner of a field, run after run against the sandbox: edits in QAD, in Zendesk, on both, and lost answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.sync.mapping_file import parse_mapping
from tests.sync.world import World

KEY = "C0000202"
FILE = """
organization:
  details: "{street}, {postcode} {city}"
  notes:
    from: "{customerV2.customerTypeCode|title} customer"
    owner: zendesk
  organization_fields.qad_city: {from: "{city}", owner: fill}
  tags: ["qad", "{customerV2.customerTypeCode|lower}"]
user:
  tags: ["qad contact", "{contact.ContactTitle}"]
"""


@pytest.fixture
def mapped(small: World) -> World:
    """The small world, synced by a file that gives each owner a field."""
    use(small, FILE)
    small.sync()
    small.count_anew()
    return small


def use(world: World, text: str) -> None:
    """Sync by this mapping file from now on."""
    world.rules = replace(world.rules, mapping=parse_mapping(text, "map.yaml"))


def in_qad(world: World, **values: object) -> None:
    """A change of the customer in QAD."""
    world.sandbox.post_control("customers", {"code": KEY, **values})


def in_zendesk(world: World, **values: object) -> None:
    """A change by hand in Zendesk."""
    row = world.organizations()[KEY]
    world.zendesk.organizations.update(row["id"], values)
    world.hand_made += 1


def writes_nothing(world: World) -> None:
    """The next run plans nothing, writes nothing, and the one after it has no candidate at all."""
    world.count_anew()
    plan, _ = world.sync()
    assert (plan.changes, world.writes()) == (0, 0)
    assert plan.counts["organization"] == {"unchanged": 12}


def test_a_first_run_fills_every_field(mapped: World) -> None:
    """Templates, columns of the browse and transforms make a new record, and a second run writes nothing."""
    row = mapped.organizations()[KEY]
    customer = next(one for one in mapped.there()["qad"]["customers"] if one["code"] == KEY)
    kind = customer["type"]
    assert row["details"] == f"{customer['street']}, {customer['zip']} {customer['city']}"
    assert row["notes"] == f"{kind.title()} customer"
    assert row["tags"] == sorted(["qad", kind.lower()])
    adopted = mapped.organizations()["C0000203"]
    assert {"vip", "qad"} <= set(adopted["tags"])
    assert "qad_contact" in mapped.users()["50001"]["tags"]
    writes_nothing(mapped)


def test_qad_owns(mapped: World) -> None:
    """What is QAD's follows QAD, and an edit by hand is put back."""
    in_qad(mapped, street="1 New Street")
    mapped.sync()
    assert mapped.organizations()[KEY]["details"].startswith("1 New Street, ")
    in_zendesk(mapped, details="by hand")
    plan, _ = mapped.sync()
    assert plan.counts["organization"]["updated"] == 1
    assert mapped.organizations()[KEY]["details"].startswith("1 New Street, ")
    in_zendesk(mapped, details="by hand")
    in_qad(mapped, street="2 New Street")
    mapped.sync()
    assert mapped.organizations()[KEY]["details"].startswith("2 New Street, ")
    writes_nothing(mapped)


def test_zendesk_owns(mapped: World) -> None:
    """What is Zendesk's is written at creation and never again, whoever edits what."""
    in_zendesk(mapped, notes="by hand")
    writes_nothing(mapped)
    in_qad(mapped, type="RESELLER")
    mapped.sync()
    row = mapped.organizations()[KEY]
    assert row["notes"] == "by hand"
    assert "reseller" in row["tags"]
    in_zendesk(mapped, notes=None)
    writes_nothing(mapped)
    assert mapped.organizations()[KEY]["notes"] is None


def test_fill_writes_only_where_nothing_is(mapped: World) -> None:
    """A field to fill keeps what stands there, is filled again once it is empty, and takes no part in other writes."""
    in_qad(mapped, city="Elsewhere")
    in_zendesk(mapped, organization_fields={"qad_city": "by hand"})
    mapped.sync()
    row = mapped.organizations()[KEY]
    assert row["organization_fields"]["qad_city"] == "by hand"
    assert row["details"].endswith(" Elsewhere")
    writes_nothing(mapped)
    in_zendesk(mapped, organization_fields={"qad_city": None})
    assert mapped.sync()[0].changes == 1
    assert mapped.organizations()[KEY]["organization_fields"]["qad_city"] == "Elsewhere"
    writes_nothing(mapped)


def test_tags_are_merged_three_ways(mapped: World) -> None:
    """Our own old tag goes when QAD drops it, others' stay, and one that was there before us is never taken."""
    old = next(one for one in mapped.organizations()[KEY]["tags"] if one != "qad")
    in_zendesk(mapped, tags=["qad", old, "gold", "reseller"])
    writes_nothing(mapped)
    in_qad(mapped, type="RESELLER")
    mapped.sync()
    assert mapped.organizations()[KEY]["tags"] == ["gold", "qad", "reseller"]
    writes_nothing(mapped)
    in_qad(mapped, type="Key Account")
    in_zendesk(mapped, tags=["qad", "gold", "reseller", "more"])
    mapped.sync()
    assert mapped.organizations()[KEY]["tags"] == ["gold", "key_account", "more", "qad", "reseller"]
    in_zendesk(mapped, tags=["gold"])
    mapped.sync()
    assert mapped.organizations()[KEY]["tags"] == ["gold", "key_account", "qad"]
    writes_nothing(mapped)


def test_tags_of_an_adopted_organization_stay_when_ours_go(mapped: World) -> None:
    """An organization that somebody had tagged before us keeps those tags when QAD says something else."""
    mapped.sandbox.post_control("customers", {"code": "C0000203", "type": "OTHER"})
    mapped.sync()
    assert mapped.organizations()["C0000203"]["tags"] == ["other", "qad", "vip"]
    use(mapped, FILE.replace('["qad", "{customerV2.customerTypeCode|lower}"]', "[]"))
    mapped.sync()
    assert mapped.organizations()["C0000203"]["tags"] == ["vip"]


def test_a_tag_whose_answer_was_lost_is_still_ours(mapped: World) -> None:
    """A tag that was written by a request without an answer goes, too, when QAD has moved on meanwhile."""
    in_qad(mapped, type="RESELLER")
    mapped.clock.sleep(130)
    mapped.collect()
    mapped.mirror()
    plan = mapped.plan()
    mapped.fault("PUT /api/v2/organizations*", action="drop", after_effect=True, times=9)
    with pytest.raises(TryLater):
        mapped.apply(plan)
    mapped.sandbox.delete_control("faults")
    assert "reseller" in mapped.organizations()[KEY]["tags"]
    in_qad(mapped, type="DEALER")
    mapped.sync()
    assert mapped.organizations()[KEY]["tags"] == ["dealer", "qad"]
    writes_nothing(mapped)


def test_tags_are_merged_in_jobs_too(mapped: World) -> None:
    """What a job wrote is remembered per record: the next change takes our old tag away and leaves others'."""
    codes = [f"C00002{number:02}" for number in range(4, 12)]
    mapped.settings(job_delay=20)
    for kind in ("RESELLER", "DEALER"):
        for code in codes:
            mapped.sandbox.post_control("customers", {"code": code, "type": kind})
            row = mapped.organizations()[code]
            mapped.zendesk.organizations.update(row["id"], {"tags": [*row["tags"], f"by-hand-{kind.lower()}"]})
        mapped.count_anew()
        mapped.sync()
        assert mapped.calls()["PUT /api/v2/organizations/update_many"] == 1
        tags = [set(mapped.organizations()[code]["tags"]) for code in codes]
        assert {tuple(sorted(found & {"qad", "reseller", "dealer"})) for found in tags} == {
            tuple(sorted(("qad", kind.lower())))
        }
    assert all({"by-hand-reseller", "by-hand-dealer"} < set(mapped.organizations()[code]["tags"]) for code in codes)
    writes_nothing(mapped)


def test_a_changed_mapping_maps_what_is_stored_again(mapped: World) -> None:
    """Another mapping re-reads the mirror for its fields and changes what it says, without one change in QAD."""
    use(mapped, FILE.replace('"{street}, {postcode} {city}"', '"{city|upper}"').replace("owner: zendesk", "owner: qad"))
    in_zendesk(mapped, notes="by hand")
    before = mapped.rows("qad_record", kind="customer", record_key=KEY)[0]["payload"]
    plan, _ = mapped.sync()
    row = mapped.organizations()[KEY]
    assert row["details"] == before["city"].upper()
    assert row["notes"] == f"{before['columns']['customerV2.customerTypeCode'].title()} customer"
    assert plan.counts["organization"]["updated"] == 12
    writes_nothing(mapped)


def test_a_change_of_owner_alone_is_looked_at(mapped: World) -> None:
    """A field that becomes QAD's is put right although what is wanted is the same as before."""
    in_zendesk(mapped, organization_fields={"qad_city": "by hand"})
    writes_nothing(mapped)
    use(mapped, FILE.replace("owner: fill", "owner: qad"))
    plan, _ = mapped.sync()
    assert plan.changes == 1
    assert mapped.organizations()[KEY]["organization_fields"]["qad_city"] != "by hand"


def test_only_named_columns_are_kept(mapped: World) -> None:
    """Of a row's further columns the ledger holds those that the mapping names, and no others."""
    (row,) = mapped.rows("qad_record", kind="customer", record_key=KEY)
    assert set(row["payload"]["columns"]) == {"customerV2.customerTypeCode"}


def test_columns_that_qad_does_not_have_are_all_named(small: World) -> None:
    """A column that the browse lacks stops the run before anything, with where it is named and what is near."""
    use(small, 'organization:\n  details: "{customerv2.TELEPHONE} {customerV2.custmerTypeCode}"\n  notes: "{x.y}"')
    with pytest.raises(FixFirst) as caught:
        small.sync()
    told = str(caught.value)
    assert "'customerV2.custmerTypeCode' (named in map.yaml, line 2, organization.details; nearest: " in told
    assert "; nearest: customerV2.customerTypeCode" in told
    assert "'x.y' (named in map.yaml, line 3, organization.notes)" in told
    assert "TELEPHONE" not in told
    assert small.writes() == 0


def test_contacts_of_other_address_types_do_not_count(small: World) -> None:
    """Where address types are named, a contact of another one is set aside with that reason."""
    small.sandbox.post_control("contacts", {"id": 50006, "address_type": "REMINDER"})
    use(small, "address_types: [HeadOffice]")
    small.sync()
    assert small.outcomes()["user", "50006"] == ("set_aside", "address_type_not_mapped")
    assert "50006" not in small.users()
    assert "50001" in small.users()


def test_a_custom_field_of_ones_own(small: World) -> None:
    """A mapped custom field must exist before the first write; once it does, it is written."""
    use(small, 'organization:\n  organization_fields.regions: "{country|lower}"')
    with pytest.raises(FixFirst, match=r"organization_fields\.regions\. Did you mean 'region' instead"):
        small.sync()
    assert small.writes() == 0
    small.zendesk.fields.create_organization_field({"key": "regions", "title": "Regions", "type": "text"})
    small.hand_made += 1
    small.sync()
    assert small.organizations()[KEY]["organization_fields"]["regions"]


def test_a_missing_user_field_stops_organizations_too(small: World) -> None:
    """All fields are looked at before the first write, so nothing is half done."""
    use(small, 'user:\n  user_fields.mobile: "{phone}"')
    with pytest.raises(FixFirst, match=r"user_fields\.mobile\. Make 'mobile' in"):
        small.sync()
    assert small.writes() == 0
    assert KEY not in small.organizations()
