"""A flow whose connections or key templates changed: refused, told, taken over, and whole again with the next runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.ledger import forgetting, identity
from airflow_provider_qadzd.ledger.applying import take_applier
from airflow_provider_qadzd.ledger.health import KnownFlow, known_flow
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import qad_record
from airflow_provider_qadzd.ledger.vault import Secrets
from airflow_provider_qadzd.sandbox import Sandbox, Size, running
from airflow_provider_qadzd.sync.collect import collect
from airflow_provider_qadzd.sync.onboard import onboard
from airflow_provider_qadzd.sync.plan import Brake
from airflow_provider_qadzd.sync.rekey import Rekeying, rekey, rekeying_of
from tests.sync.test_collisions import change_customer, in_zendesk
from tests.sync.test_faults import whole
from tests.sync.test_killed import USERS, fired, killed_when
from tests.sync.world import RULES, World

OTHER = {"organization": "eu-{code}", "user": "eu-{contact}"}
RELEASED = Brake(1.0, 50)


def meant(world: World, **parts: Any) -> KnownFlow:
    """What the connections and templates mean now: what they meant, but for these parts."""
    known = known_flow(world.ledger, "default")
    assert known is not None
    zendesk = parts.pop("zendesk_url", known.zendesk_url)
    qad = (parts.pop("qad_url", known.qad_url), parts.pop("workspaces", known.workspaces))
    flow = Flow(
        0, "default",
        identity.source_id_of(world.ledger, qad[0], tuple(filter(None, qad[1].split(",")))),
        identity.account_at(world.ledger, zendesk).account_id,
    )  # fmt: skip
    templates = {f"{kind}_template": template for kind, template in parts.items()}
    return replace(known, flow=flow, qad_url=qad[0], workspaces=qad[1], zendesk_url=zendesk, **templates)


def refused(world: World, now: KnownFlow) -> str:
    """What the next run says."""
    with pytest.raises(FixFirst, match="airflow qadzd rekey --flow default") as told:
        opened(world, now)
    return str(told.value)


def opened(world: World, now: KnownFlow) -> Flow:
    """The flow as an operator opens it."""
    account_id = identity.account_at(world.ledger, now.zendesk_url).account_id
    source_id = identity.source_id_of(world.ledger, now.qad_url, tuple(filter(None, now.workspaces.split(","))))
    return identity.flow_named(
        world.ledger, "default", source_id, account_id, now.organization_template, now.user_template
    )


def looked(world: World, now: KnownFlow) -> Rekeying:
    """What rekey says that it would do."""
    world.rules = replace(world.rules, organization=now.organization_template, user=now.user_template)
    found = rekeying_of(world.ledger, now, world.zendesk, world.rules)
    assert found is not None
    return found


def rekeyed(world: World, now: KnownFlow) -> tuple[str, ...]:
    """Refused, then taken over; rekeying again finds nothing to do. What was told of it."""
    refused(world, now)
    found = looked(world, now)
    rekey(world.ledger, found, "a person")
    world.flow = opened(world, now)
    again = replace(now, flow=replace(world.flow, flow_id=0))
    assert rekeying_of(world.ledger, again, world.zendesk, world.rules) is None
    return found.told


def ids(world: World) -> dict[tuple[str, str], int]:
    """Which record in Zendesk each customer and contact is linked to."""
    return {
        (row["kind"], row["record_key"]): row["zendesk_id"]
        for row in world.rows("link", flow_id=world.flow.flow_id)
        if not row["other_key"]
    }


def does_nothing(world: World) -> None:
    """The next run plans nothing and writes nothing."""
    world.count_anew()
    assert (world.sync()[0].changes, world.writes()) == (0, 0)


# -- key templates -----------------------------------------------------------------------------------------------------


def test_other_templates_give_linked_records_new_external_ids(either: World) -> None:
    """Nothing is sent by rekey itself; the plan shows each new external id, the brake holds it, and no link moves."""
    either.sync()
    before, there = ids(either), either.there()
    either.count_anew()
    told = "\n".join(rekeyed(either, meant(either, **OTHER)))
    assert "The external id of organizations was {code} and is eu-{code}.\n12 linked organizations stay" in told
    either.clock.sleep(130)
    either.collect()
    either.mirror()
    shown = either.plan("dry_run", RELEASED)
    assert shown.counts["organization"]["updated"] == 12
    (row,) = [row for row in either.rows("change_item", record_key="C0000202") if row["plan_id"] == shown.plan_id]
    assert row["difference"] == {"external_id": ["C0000202", "eu-C0000202"]}
    assert either.writes() == 0
    either.apply_through(either.plan(brake=RELEASED))
    assert ids(either) == before
    after = either.there()
    assert len(after["organizations"]) == len(there["organizations"])
    assert len(after["users"]) == len(there["users"])
    assert either.organizations()["eu-C0000202"]["id"] == before["organization", "C0000202"]
    assert either.users()["eu-50001"]["id"] == before["user", "50001"]
    does_nothing(either)


def test_an_external_id_that_somebody_has_is_named(synced: World) -> None:
    """Of a new external id that another record has, rekey says whose it is; the record keeps its link, set aside."""
    in_zendesk(synced, "POST", "/organizations", {"organization": {"name": "Theirs", "external_id": "EU-C0000202"}})
    theirs = synced.organizations()["EU-C0000202"]["id"]
    synced.clock.sleep(130)
    synced.mirror()
    before = ids(synced)
    told = "\n".join(rekeyed(synced, meant(synced, organization="eu-{code}")))
    assert f"eu-C0000202 of C0000202 is that of organization {theirs} (not ours)" in told
    synced.sync()
    assert ids(synced) == before
    assert synced.outcomes()["organization", "C0000202"][0] == "set_aside"
    assert synced.organizations()["C0000202"]["id"] == before["organization", "C0000202"]
    assert "eu-C0000203" in synced.organizations()
    does_nothing(synced)


def test_a_template_that_makes_two_the_same_is_refused(synced: World) -> None:
    """Two linked records never get one external id."""
    with pytest.raises(FixFirst, match="tells all records apart"):
        looked(synced, meant(synced, organization="{domain}"))
    refused(synced, meant(synced, organization="{domain}"))


def test_templates_of_another_flow_in_the_account_are_refused(synced: World) -> None:
    """A flow is not rekeyed to the external ids of another one in its account."""
    identity.flow_named(synced.ledger, "eu", 99, synced.account.account_id, "eu-{code}", "eu-{contact}")
    with pytest.raises(FixFirst, match="same external ids as flow 'eu'"):
        looked(synced, meant(synced, **OTHER))


def test_not_while_a_write_is_on_its_way(small: World) -> None:
    """What a killed run had sent is found by the key that it was sent with, so it is resolved before keys change."""
    small.collect()
    small.mirror()
    plan = small.plan()
    small.fault(USERS, action="delay", seconds=0.2)
    killed_when(small, plan, lambda: fired(small) == 1)
    time.sleep(0.3)
    small.clock.ahead = 301.0
    now = meant(small, **OTHER)
    found = looked(small, now)
    with pytest.raises(TryLater, match="on their way") as told:
        rekey(small.ledger, found, "a person")
    assert "let a run end" in str(told.value)
    small.rules = RULES
    small.apply_through(plan, "second")
    before = len(small.there()["users"])
    rekeyed(small, now)
    small.clock.sleep(130)
    small.collect()
    small.mirror()
    small.apply_through(small.plan(brake=RELEASED), "second")
    assert len(small.there()["users"]) == before
    assert len({row["external_id"] for row in small.there()["users"]} - {None}) == 13
    small.sandbox.delete_control("faults")
    does_nothing(small)


def test_not_while_a_run_applies(synced: World) -> None:
    """A run that applies changes at that moment is not pulled the ground away."""
    take_applier(synced.ledger, synced.account.account_id, "another", 300.0)
    with pytest.raises(TryLater, match="another"):
        rekey(synced.ledger, looked(synced, meant(synced, **OTHER)), "a person")


def test_killed_while_new_external_ids_are_sent(small: World) -> None:
    """A run that is killed in the middle of it leaves nothing doubled: the next one gives the rest theirs."""
    small.sync()
    before = ids(small)
    rekeyed(small, meant(small, **OTHER))
    small.clock.sleep(130)
    small.mirror()
    plan = small.plan(brake=RELEASED)
    small.fault("PUT /api/v2/users/update_many", action="delay", seconds=0.2)
    killed_when(small, plan, lambda: fired(small) == 1)
    time.sleep(0.3)
    small.apply_through(plan, "first")
    small.sandbox.delete_control("faults")
    there = small.there()
    assert len({row["external_id"] for row in there["organizations"] + there["users"]} - {None}) == 25
    assert ids(small) == before
    does_nothing(small)


# -- Zendesk -----------------------------------------------------------------------------------------------------------


@contextmanager
def connected_to(world: World, sandbox: Sandbox, url: str) -> Iterator[None]:
    """The Zendesk connection points there, as far as this lasts."""
    was = (world.sandbox, world.account, world.secrets, world.zendesk)
    world.sandbox, world.account = sandbox, identity.account_at(world.ledger, url)
    world.secrets = Secrets(world.ledger, world.vault, world.account.holder)
    world.zendesk = world.zendesk_client(url=url)
    yield
    world.sandbox, world.account, world.secrets, world.zendesk = was


def test_the_same_account_under_a_new_address_keeps_all(either: World) -> None:
    """A renamed account is recognised by its organizations: row, links, slug and webhook stay, nothing is written."""
    either.sync()
    before = (ids(either), either.account.account_id, either.account.slug)
    address = either.sandbox.url.replace("127.0.0.1", "localhost")
    with connected_to(either, either.sandbox, address):
        told = rekeyed(either, meant(either, zendesk_url=address))
        assert told[1].startswith("It is the known account: 12 of 12 linked organizations are there.")
        (account,) = either.rows("account")
        assert (ids(either), account["account_id"], account["slug"]) == before
        assert account["base_url"] == address
        either.account = identity.account_at(either.ledger, address)
        either.secrets = Secrets(either.ledger, either.vault, either.account.holder)
        either.zendesk = either.zendesk_client(url=address)
        does_nothing(either)


def test_an_onboarded_account_is_recognised_by_its_webhook(small: World) -> None:
    """Before anything is linked, the webhook that onboarding made tells that it is the same account."""
    onboard(small.ledger, small.account, small.zendesk, small.secrets, "https://airflow.example")
    address = small.sandbox.url.replace("127.0.0.1", "localhost")
    with connected_to(small, small.sandbox, address):
        assert "webhook" in rekeyed(small, meant(small, zendesk_url=address))[1]
    assert len(small.rows("account")) == 1


@pytest.fixture(scope="module")
def other_zendesk() -> Iterator[Sandbox]:
    """Another Zendesk account, on a socket of its own."""
    with running() as sandbox:
        yield sandbox


@pytest.fixture
def elsewhere(other_zendesk: Sandbox) -> Sandbox:
    """That account, with our fields and nobody of QAD's in it."""
    other_zendesk.state.size = Size(12, 15, 20)
    other_zendesk.post_control("reset")
    other_zendesk.post_control("limits", {"enabled": False})
    return other_zendesk


def test_another_account_begins_anew_and_the_old_one_is_left(either: World, elsewhere: Sandbox) -> None:
    """There every record is made once; the old account is not touched, and its links are taken up again on return."""
    either.sync()
    first, old_ids, old = either.flow, ids(either), either.organizations()
    either.count_anew()
    with connected_to(either, elsewhere, elsewhere.url):
        either.make_fields()
        either.clock.ahead = either.ledger.clock.time() - elsewhere.state.now
        told = "\n".join(rekeyed(either, meant(either, zendesk_url=elsewhere.url)))
        assert "That is another account." in told
        assert "The flow begins anew there: run qadzd_onboard first." in told
        assert either.flow.flow_id != first.flow_id
        either.sync()
        assert len(ids(either)) == len(old_ids)
        assert set(ids(either)) == set(old_ids)
        assert {"C0000202", "C0000203"} <= set(either.organizations())
        does_nothing(either)
        second = either.flow
    assert either.writes() == 0
    assert either.organizations() == old
    told = "\n".join(rekeyed(either, meant(either, zendesk_url=either.sandbox.url)))
    assert "its links of then are taken up again" in told
    assert either.flow == first
    assert ids(either) == old_ids
    does_nothing(either)
    assert {row["flow_name"] for row in either.rows("flow")} == {"default", f"default@{_slug(elsewhere.url)}"}
    assert second.flow_id != first.flow_id


def _slug(url: str) -> str:
    return url.removeprefix("http://").replace(":", "-").replace(".", "-")


def test_what_was_on_its_way_is_looked_for_on_return(small: World, elsewhere: Sandbox) -> None:
    """A run killed before the flow went to another account is finished when it comes back; nothing is doubled."""
    small.collect()
    small.mirror()
    plan = small.plan()
    small.fault(USERS, action="delay", seconds=0.2)
    killed_when(small, plan, lambda: fired(small) == 1)
    time.sleep(0.3)
    small.clock.ahead = 301.0
    with connected_to(small, elsewhere, elsewhere.url):
        small.clock.ahead = small.ledger.clock.time() - elsewhere.state.now
        rekeyed(small, meant(small, zendesk_url=elsewhere.url))
    small.clock.ahead = 301.0
    rekeyed(small, meant(small, zendesk_url=small.sandbox.url))
    small.sandbox.delete_control("faults")
    small.sync("second")
    whole(small)


# -- QAD ---------------------------------------------------------------------------------------------------------------


def qad_at(world: World, url: str) -> None:
    """The QAD connection points there from now on."""
    world.qad_url = url
    world.qad = world.qad_client()


def test_another_address_of_qad_keeps_all_links(either: World) -> None:
    """What is told there is compared with what was told before, by key; who was forgotten stays so."""
    either.sync()
    (subject,) = forgetting.subjects(either.ledger, "50001")
    forgetting.forget(either.ledger, subject, "a person")
    before, source_id = ids(either), either.flow.source_id
    address = either.qad_url.replace("127.0.0.1", "localhost")
    told = "\n".join(rekeyed(either, meant(either, qad_url=address, workspaces="10USA")))
    assert f"is {address} (workspaces 10USA)" in told
    (source,) = either.rows("source")
    assert (source["source_id"], source["base_url"], source["workspaces"]) == (source_id, address, "10USA")
    assert not any(row["complete"] for row in either.rows("qad_read"))
    assert not either.rows("credential", holder=f"source:{source_id}")
    qad_at(either, address)
    change_customer(either, "C0000202", city="Elsewhere")
    either.count_anew()
    plan, _ = either.sync()
    assert (plan.changes, either.writes()) == (1, 1)
    assert ids(either) == before
    assert not either.rows("qad_record", record_key="50001")
    does_nothing(either)


def test_a_qad_that_another_flow_reads_is_shared_with_it(synced: World) -> None:
    """Where another flow reads that QAD already, or the old one, nothing of its reads is touched.

    What this QAD has not told of is not wanted any more, and stays in Zendesk as it is.
    """
    there = identity.account_at(synced.ledger, "https://other.zendesk.com").account_id
    address = synced.qad_url.replace("127.0.0.1", "localhost")
    source_id = identity.source_id_of(synced.ledger, address, ())
    identity.flow_named(synced.ledger, "other", source_id, there, "{code}", "{contact}")
    change_customer(synced, "C0000202", city="Elsewhere")
    qad_at(synced, address)
    collect(synced.ledger, source_id, synced.qad, "run")
    with synced.ledger.writing() as tx:
        tx.execute(delete(qad_record).where(qad_record.c.source_id == source_id, qad_record.c.record_key == "C0000203"))
    before, reads = ids(synced), [row["complete"] for row in synced.rows("qad_read")]
    rekeyed(synced, meant(synced, qad_url=address))
    assert len(synced.rows("source")) == 2
    assert [row["complete"] for row in synced.rows("qad_read")] == reads
    synced.count_anew()
    synced.clock.sleep(130)
    synced.mirror()
    synced.apply(synced.plan())
    assert synced.writes() == 1
    assert ids(synced) == before
    assert not synced.rows("wanted", record_key="C0000203")
    assert "C0000203" in synced.organizations()
    does_nothing(synced)


def test_the_audit_tells_of_it(synced: World) -> None:
    """What was and what became of each part stands in the audit, with who did it."""
    rekeyed(synced, meant(synced, organization="eu-{code}"))
    (row,) = synced.rows("audit_entry", event="rekeyed")
    assert (row["kind"], row["record_key"], row["run"]) == ("flow", "default", "a person")
    assert row["detail"] == {"organization_template": ["{code}", "eu-{code}"]}
