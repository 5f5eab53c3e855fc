"""What is told of one key, and of all that is not in Zendesk: from the ledger alone, after real runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.stories import Story, stories
from airflow_provider_qadzd.sync import story as telling
from airflow_provider_qadzd.sync.export import Run, export_live
from airflow_provider_qadzd.sync.reasons import reason_of
from tests.sync.test_collisions import in_zendesk
from tests.sync.test_deliveries import deliver, drained, event, live
from tests.sync.world import World


def told(world: World, key: str, of: str = "") -> Story:
    """The one story of that key (of that kind)."""
    (found,) = [one for one in stories(world.ledger, key) if of in ("", one.of)]
    return found


def whats(story: Story) -> list[tuple[str, str, str]]:
    """The steps as (what, kind, told)."""
    return [(step.what, step.kind, step.told) for step in story.steps if step.what != "sent"]


def test_a_customers_story_is_whole(synced: World) -> None:
    """Seen, planned, sent in a job, created, by which run and with what in each field; told once, in time's order."""
    story = told(synced, "C0000201")
    assert [step.what for step in story.steps] == ["seen", "planned", "sent", "audited"]
    assert [step.at for step in story.steps] == sorted(step.at for step in story.steps)
    _seen, planned, sent, created = story.steps
    assert (planned.told, planned.run) == ("create", "run")
    assert sent.told.startswith("V3-")
    assert (created.told, created.run) == ("created", "run")
    assert created.detail["changed"]["external_id"] == [None, "C0000201"]
    assert story.now["zendesk_id"] == synced.organizations()["C0000201"]["id"]
    assert story.now["contacts"] == ["50001", "50013"]
    text = telling.as_text(story)
    assert 'external_id: nothing -> "C0000201"' in text
    assert "[run]" in text


def test_a_contacts_story_has_its_memberships(synced: World) -> None:
    """Its user and each of its organizations, in one story; its customers stand at the head."""
    story = told(synced, "50001")
    assert story.now["customers"] == ["C0000201", "C0000210"]
    added = [step.other for step in story.steps if (step.what, step.kind) == ("audited", "membership")]
    assert added == ["C0000201", "C0000210"]
    assert ("audited", "user", "adopted") in whats(story)


def test_a_change_in_qad_is_told_with_before_and_after(synced: World) -> None:
    """A later read, plan and answer join the story, and what changed is told field by field."""
    synced.sandbox.post_control("customers", {"code": "C0000201", "name": "Northwind Pumps"})
    synced.sync("another run")
    story = told(synced, "C0000201")
    assert [step.what for step in story.steps][4:] == ["seen", "planned", "sent", "audited"]
    last = story.steps[-1]
    assert (last.told, last.run) == ("updated", "another run")
    assert last.detail["changed"]["name"] == ["Northwind Pumps & Valves", "Northwind Pumps"]


def test_a_key_of_several_kinds_has_several_stories(synced: World) -> None:
    """A number may be a ticket and a delivery; each is told, with what links them."""
    synced.start_exports()
    export_live(synced.ledger, synced.account.account_id, synced.zendesk, Run("dag", "run"))
    (ticket_id, *_) = live(synced)
    for n in range(ticket_id):
        deliver(synced, event(ticket_id, event_id=f"delivery-{n}"))
    drained(synced)
    found = stories(synced.ledger, str(ticket_id))
    assert [one.of for one in found] == ["ticket", "delivery"]
    ticket, delivery = found
    assert [step.what for step in ticket.steps].count("delivered") == ticket_id
    assert ("audited", "ticket", "matched") in whats(ticket) or "customer_key" not in ticket.now
    assert {"history", "event"} <= {step.what for step in ticket.steps}
    assert {step.what for step in delivery.steps} == {"delivered", "drained", "event"}
    assert told(synced, "delivery-0").of == "delivery"
    assert "drained" in telling.why_text(delivery)
    assert telling.as_text(ticket).startswith(f"Ticket {ticket_id} (http")


def test_stories_are_json_as_well(synced: World) -> None:
    """The JSON has every fact and step of the text."""
    (story,) = json.loads(telling.as_json(stories(synced.ledger, "50001")))
    assert (story["of"], story["key"], story["where"]) == ("contact", "50001", "default")
    assert story["now"]["email"] == told(synced, "50001").now["email"]
    assert len(story["steps"]) == len(told(synced, "50001").steps)
    (why,) = json.loads(telling.whys_json(stories(synced.ledger, "50002")))
    assert why["why"]["code"] == "of_staff"


def test_an_unknown_key_gets_near_ones(synced: World) -> None:
    """A mistyped key, another spelling, a name and an email lead to the key; what is like nothing is said to be so."""
    assert stories(synced.ledger, "C00002011") == []
    assert "C0000201" in telling.near(synced.ledger, "C00002011", None)
    assert telling.near(synced.ledger, "c0000201", None)[0] == "C0000201"
    assert telling.near(synced.ledger, "northwind pumps & VALVES", None) == ["C0000201"]
    assert telling.near(synced.ledger, "renee.keller@northwind-pumps-valves.example", None) == ["50001"]
    assert "Near: C0000" in telling.unknown_text(synced.ledger, "C00002011", None)
    assert "task collect" in telling.unknown_text(synced.ledger, "qqqq", None)
    assert stories(synced.ledger, "9" * 30) == []


def test_a_flow_can_be_chosen(synced: World) -> None:
    """Only that flow's stories are told; one that the ledger does not know is an error with the known ones."""
    assert [one.where for one in stories(synced.ledger, "C0000201", "default")] == ["default"]
    with pytest.raises(FixFirst, match="Known: default"):
        stories(synced.ledger, "C0000201", "other")


# -- why ---------------------------------------------------------------------------------------------------------------


def test_why_a_customer_is_not_in_zendesk(small: World) -> None:
    """At each point of its way the one reason is told: never planned, planned, taken back, there, deleted there."""

    def why() -> str:
        return telling.why_text(told(small, "C0000201"))

    small.collect()
    assert "no run has planned since" in why()
    small.mirror()
    small.plan("dry_run")
    assert "was that a dry run" in why()
    plan = small.plan()
    assert "create is planned by run" in why()
    small.apply(plan)
    organization = small.organizations()["C0000201"]["id"]
    assert why() == f"Customer C0000201 (default) is in Zendesk: organization {organization}."


def test_the_summary_counts_reasons_with_examples(synced: World) -> None:
    """Who shares a mailbox and who has an agent's address, each with its count, a key and what to do."""
    synced.sandbox.post_control("customers", {"code": "C0000299"})
    synced.sandbox.post_control("customers", {"code": "C0000299", "name": ""})
    synced.collect()
    synced.mirror()
    synced.apply(synced.plan())
    found = {(one.kind, one.code): one for one in telling.causes(synced.ledger)}
    assert {group: (one.count, one.examples) for group, one in found.items()} == {
        ("organization", "no_name"): (1, ("C0000299",)),
        ("user", "of_staff"): (1, ("50002",)),
        ("user", "shared_with"): (1, ("50004",)),
    }
    text = telling.causes_text(list(found.values()))
    assert "of_staff" in text
    assert "staff are never written" in text
    assert telling.causes(synced.ledger, "default") == telling.causes(synced.ledger)
    assert len(json.loads(telling.causes_json(list(found.values())))) == 3


def test_a_trouble_that_is_over_is_told_no_more(synced: World) -> None:
    """A linked user who was an agent for a while is in step again, and no reason remains."""
    user = synced.users()["50001"]["id"]
    in_zendesk(synced, "PUT", f"/users/{user}", {"user": {"role": "agent"}})
    synced.sync()
    assert "Its user has become an agent" in telling.why_text(told(synced, "50001"))
    in_zendesk(synced, "PUT", f"/users/{user}", {"user": {"role": "end-user"}})
    synced.sync()
    assert telling.why_text(told(synced, "50001")) == f"Contact 50001 (default) is in Zendesk: user {user}."
    assert "50001" not in telling.causes_text(telling.causes(synced.ledger))


@pytest.mark.parametrize(
    ("outcome", "detail", "code", "said"),
    [
        ("set_aside", "case_twin of abc", "case_twin", "differs from abc only by capitals"),
        ("set_aside", "email_held_by 50003", "held_by_another_key", "belongs to 50003"),
        ("set_aside", "name_held_by external id of 12", "held_by_a_stranger", "record 12 has this name"),
        ("set_aside", "12_held_by flow 2 C1", "held_by_another_key", "belongs to flow 2 C1"),
        ("set_aside", "external_id_of_admin 5", "of_staff", "external_id is that of the admin 5"),
        ("set_aside", "refused_by_zendesk email DuplicateValue", "refused_by_zendesk", "(email DuplicateValue)"),
        ("set_aside", "refused_by_zendesk name X, held by 7", "refused_by_zendesk", "its record 7 holds"),
        ("failed_retryable", "gone", "gone", "deleted in Zendesk while"),
        ("postponed", "waits for its user", "waits", "Its user is not in Zendesk yet"),
        ("set_aside", "a_reason_of_tomorrow 5", "a_reason_of_tomorrow", "set aside: a_reason_of_tomorrow 5"),
        ("", "", "not_planned", "No run has decided"),
    ],
)
def test_every_reason_has_words(outcome: str, detail: str, code: str, said: str) -> None:
    """A detail becomes a sentence and advice; one that has no words yet is told as it is, under its first word."""
    reason: Any = reason_of(outcome, detail)
    assert reason.code == code
    assert said in reason.what
    assert reason.advice
