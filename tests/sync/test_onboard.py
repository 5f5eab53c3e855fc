"""Getting an account ready: what is missing is made, what is there is kept or mended, and all of it can be undone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.vault import Secrets, Vault
from airflow_provider_qadzd.plugin.receiver import receiver_app
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sync.mapping import ORGANIZATION_FIELDS, USER_FIELDS
from airflow_provider_qadzd.sync.onboard import Choices, Onboarded, onboard, remove
from airflow_provider_qadzd.sync.webhooks import EVENT_TYPES, WEBHOOK_NAME, fires_on_organization, route_of
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from tests.serving import served
from tests.sync.test_deliveries import change, drained, live
from tests.sync.world import World, world_of

URL = "https://qadzd.example"
FIELDS = len(ORGANIZATION_FIELDS) + len(USER_FIELDS)


@pytest.fixture
def bare(sync_sandbox: Sandbox, ledger_path: Path) -> Iterator[World]:
    """An account that nothing was set up in."""
    with world_of(sync_sandbox, ledger_path, (3, 3, 3), fields=False) as world:
        yield world


def ready(world: World, url: str = URL, client: ZendeskClient | None = None, **chosen: Any) -> Onboarded:
    """Onboard the account; without a delivery for a test, unless it is asked for."""
    choices = Choices(url, **{"test_delivery": False, **chosen})
    return onboard(world.ledger, world.account, client or world.zendesk, world.secrets, choices)


def signing(world: World) -> dict[str, str]:
    """The signing secrets that are kept, by name."""
    return world.secrets.with_prefix("signing:")


def test_what_is_missing_is_made(bare: World) -> None:
    """Our fields, one webhook for our events, and both starting points at the day's first second are there."""
    done = ready(bare)
    there = bare.there()
    assert {row["key"] for row in there["organization_fields"]} == {"region", *ORGANIZATION_FIELDS}
    assert {row["key"] for row in there["user_fields"]} == {"preferred_channel", *USER_FIELDS}
    (webhook,) = there["webhooks"]
    assert webhook["endpoint"] == done.endpoint == f"{URL}/qadzd/webhooks/zendesk/{bare.account.slug}"
    assert set(webhook["subscriptions"]) == set(EVENT_TYPES)
    assert webhook["status"] == "active"
    assert len(done.did("made")) == FIELDS + 1
    midnight = int(bare.clock.time() // 86_400 * 86_400)
    assert {row["leg"]: row["position"] for row in bare.rows("export_cursor")} == {
        "tickets": f"start:{midnight}",
        "ticket_events": f"start:{midnight}",
    }
    (account,) = bare.rows("account")
    assert account["webhook_id"] == webhook["id"]
    assert done.summary().startswith(f"{FIELDS + 1} made; 0 as they were. Zendesk delivers to {URL}")


@pytest.mark.parametrize("route", ["events", "triggers"])
def test_a_second_run_changes_nothing(bare: World, route: str) -> None:
    """Run again, days later, without a word on the route: nothing is made, no write is asked for, no place is lost."""
    first = ready(bare, route=route)
    before, account, cursors = bare.there(), bare.rows("account"), bare.rows("export_cursor")
    bare.count_anew()
    bare.clock.sleep(3 * 86_400)
    done = ready(bare)
    assert (done.did("kept"), bare.writes()) == (first.did("made"), 0)
    assert len(done.steps) == len(first.steps)
    after = bare.there()
    assert {**after, "now": None} == {**before, "now": None}
    assert (bare.rows("account"), bare.rows("export_cursor")) == (account, cursors)
    assert done.summary().startswith("Nothing to do;")


def test_a_moved_receiver_repoints_the_webhook(bare: World) -> None:
    """Another receiver's address changes the one webhook's endpoint; its secret and its id stay."""
    first = ready(bare)
    (before,) = bare.there()["webhooks"]
    second = ready(bare, "https://moved.example/")
    (after,) = bare.there()["webhooks"]
    assert after["endpoint"] == f"https://moved.example/qadzd/webhooks/zendesk/{bare.account.slug}"
    assert (after["id"], after["signing_secret"]) == (before["id"], before["signing_secret"])
    assert second.did("repaired") == [f"webhook {WEBHOOK_NAME!r}, subscribed to 16 ticket events: endpoint"]
    assert first.webhook_id == second.webhook_id


def test_what_was_switched_off_is_switched_on(bare: World) -> None:
    """A webhook and a field that somebody deactivated are active again after onboarding."""
    done = ready(bare)
    bare.zendesk.webhooks.update(done.webhook_id, {"status": "inactive"})
    field = bare.there()["user_fields"][-1]
    bare.zendesk.fields.update_user_field(field["id"], {"active": False})
    assert len(ready(bare).did("repaired")) == 2
    assert [row["status"] for row in bare.there()["webhooks"]] == ["active"]
    assert {row["active"] for row in bare.there()["user_fields"]} == {True}


def test_a_mistyped_field_is_left_for_a_person(bare: World) -> None:
    """Zendesk changes no field's type, and deleting it loses values: the report says what to do, all else is made."""
    bare.zendesk.fields.create_organization_field({"key": "qad_status", "title": "Status", "type": "checkbox"})
    done = ready(bare)
    (told,) = [one for one in done.todo if "qad_status" in one]
    assert told.startswith("Delete the organization field qad_status in Admin Center and run this again:")
    assert "of type checkbox, must be text" in told
    assert len(done.did("made")) == FIELDS


def test_the_signing_secret_is_sealed(bare: World, ledger_path: Path) -> None:
    """The secret can be had from the vault, and stands nowhere in the ledger's files in plain text."""
    done = ready(bare)
    (webhook,) = bare.there()["webhooks"]
    kept = Secrets(bare.ledger, bare.vault, bare.account.holder).with_prefix("signing:")
    assert kept == {f"signing:{done.webhook_id}": webhook["signing_secret"]}
    files = list(ledger_path.parent.glob("ledger.db*"))
    assert files
    assert not [file for file in files if webhook["signing_secret"].encode() in file.read_bytes()]
    assert webhook["signing_secret"] not in f"{done}"


def test_a_reset_secret_replaces_the_old_one(bare: World) -> None:
    """After the secret was reset in Zendesk, onboarding brings the new one, and the old one opens nothing any more."""
    done = ready(bare)
    fresh = bare.zendesk.webhooks.reset_signing_secret(done.webhook_id)
    ready(bare)
    assert list(signing(bare).values()) == [fresh]


# -- the webhook, its route, its triggers ------------------------------------------------------------------------------


def test_the_trigger_route_makes_three_triggers(bare: World) -> None:
    """A webhook without events, and three triggers that call it with a literal kind and the ticket's id alone."""
    done = ready(bare, route="triggers")
    (webhook,) = bare.there()["webhooks"]
    assert webhook["subscriptions"] == ["conditional_ticket_events"]
    bodies = {row["title"]: row["actions"][0]["value"] for row in bare.there()["triggers"]}
    assert bodies == {
        f"QAD ticket {kind}": [done.webhook_id, f'{{"kind": "{kind}", "ticket_id": "{{{{ticket.id}}}}"}}']
        for kind in ("created", "updated", "solved")
    }
    assert any("no deletion and no merge" in one for one in done.todo)


def test_a_spoiled_trigger_is_mended(bare: World) -> None:
    """A trigger that was switched off, one that was changed and one that was deleted are as they were made."""
    ready(bare, route="triggers")
    one, two, three = bare.there()["triggers"]
    bare.zendesk.triggers.update(one["id"], {"active": False})
    wrong = {"all": [{"field": "status", "operator": "is", "value": "solved"}], "any": []}
    bare.zendesk.triggers.update(two["id"], {"conditions": wrong})
    bare.zendesk.triggers.delete(three["id"])
    done = ready(bare)
    assert (len(done.did("repaired")), len(done.did("made"))) == (2, 1)
    again = {row["title"]: (row["active"], row["conditions"], row["actions"]) for row in bare.there()["triggers"]}
    assert again == {row["title"]: (True, row["conditions"], row["actions"]) for row in (one, two, three)}


@pytest.mark.parametrize(("first", "second"), [("events", "triggers"), ("triggers", "events")])
def test_another_route_replaces_the_webhook(bare: World, first: str, second: str) -> None:
    """The kind of a webhook cannot be changed: a new one takes over, and the old one goes with triggers and secret."""
    before, after = ready(bare, route=first), ready(bare, route=second)
    assert before.webhook_id != after.webhook_id
    (webhook,) = bare.there()["webhooks"]
    assert (webhook["id"], webhook["status"], route_of(webhook)) == (after.webhook_id, "active", second)
    assert list(signing(bare)) == [f"signing:{after.webhook_id}"]
    assert len(bare.there()["triggers"]) == (3 if second == "triggers" else 0)


def test_a_webhook_that_is_told_too_little_is_replaced(bare: World) -> None:
    """Subscriptions cannot be mended either; no delivery is refused in between, for the new secret is there first."""
    done = ready(bare)
    bare.sandbox.state.zendesk.webhooks[done.webhook_id]["subscriptions"] = list(EVENT_TYPES[3:])
    again = ready(bare)
    (webhook,) = bare.there()["webhooks"]
    assert set(webhook["subscriptions"]) == set(EVENT_TYPES)
    assert again.did("removed") == [f"webhook {done.webhook_id}", f"signing secret of webhook {done.webhook_id}"]


@pytest.mark.parametrize(
    ("call", "skip"),
    [
        ("POST /api/v2/webhooks", 0), ("GET /api/v2/webhooks/*", 0), ("PATCH /api/v2/webhooks/*", 0),
        ("POST /api/v2/triggers", 0), ("POST /api/v2/triggers", 2), ("DELETE /api/v2/webhooks/*", 0),
    ],
    ids=["making it", "its secret", "switching it on", "the first trigger", "the last trigger", "deleting the old one"],
)  # fmt: skip
def test_wherever_it_is_interrupted_the_next_run_ends_it(bare: World, call: str, skip: int) -> None:
    """Stopped in the middle of replacing a webhook, and run again: one webhook, its secret alone, three triggers."""
    ready(bare)
    bare.fault(call, status=400, skip=skip)
    with pytest.raises(FixFirst):
        ready(bare, route="triggers")
    bare.sandbox.delete_control("faults")
    done = ready(bare, route="triggers")
    (webhook,) = bare.there()["webhooks"]
    assert (webhook["id"], webhook["status"], route_of(webhook)) == (done.webhook_id, "active", "triggers")
    assert signing(bare) == {f"signing:{done.webhook_id}": webhook["signing_secret"]}
    assert len(bare.there()["triggers"]) == 3
    bare.count_anew()
    ready(bare)
    assert bare.writes() == 0


def test_another_installations_webhook_is_left_alone(bare: World) -> None:
    """A webhook of our name that delivers elsewhere is told of, and neither changed nor deleted, nor its triggers."""
    other = {
        "name": WEBHOOK_NAME, "endpoint": "https://staging.example/hook", "http_method": "POST",
        "request_format": "json", "status": "active", "subscriptions": ["conditional_ticket_events"],
    }  # fmt: skip
    theirs = bare.zendesk.webhooks.create(other)
    call = {"field": "notification_webhook", "value": [theirs["id"], "{}"]}
    conditions = {"all": [{"field": "update_type", "operator": "is", "value": "Create"}], "any": []}
    body = {"title": "QAD ticket created", "conditions": conditions, "actions": [call]}
    bare.zendesk.triggers.create(body)
    done = ready(bare, route="triggers")
    assert any("https://staging.example/hook" in one for one in done.todo)
    remove(bare.ledger, bare.account, bare.zendesk, bare.secrets, URL)
    there = bare.there()
    assert [row["id"] for row in there["webhooks"]] == [theirs["id"]]
    assert [row["actions"] for row in there["triggers"]] == [[call]]


# -- what we may -------------------------------------------------------------------------------------------------------


def client_with(world: World, scope: str) -> ZendeskClient:
    """A client whose token has that scope."""
    from airflow_provider_qadzd.ledger.budget import LedgerBudget
    from airflow_provider_qadzd.zendesk.oauth import OAuthClient, ZendeskAuth
    from airflow_provider_qadzd.zendesk.pace import Pace
    from airflow_provider_qadzd.zendesk.tokens import TokenSource

    url, session = world.sandbox.url, world.session()
    machine = OAuthClient(url, "sandbox", "sandbox", scope, where="connection zd")
    session.auth = ZendeskAuth(url, TokenSource(f"t:{scope}", machine, world.secrets, world.session(), world.clock))
    return ZendeskClient(url, session, Pace(LedgerBudget(world.ledger, world.account.account_id)), world.clock)


NARROW = (
    "users:read users:write organizations:read organizations:write tickets:read webhooks:read webhooks:write "
    "triggers:read triggers:write"
)


@pytest.mark.parametrize(
    ("scope", "chosen", "lacking"),
    [
        ("read", {}, "users:write"),
        (NARROW.replace("webhooks:write ", ""), {}, "webhooks:write"),
        (NARROW, {}, None),
        (NARROW, {"set_ticket_organization": True}, "tickets:write"),
        (f"{NARROW} tickets:write", {"set_ticket_organization": True}, None),
    ],
    ids=["read alone", "no webhooks", "all but tickets", "tickets are to be written", "all"],
)
def test_scopes_are_tested_before_anything_is_made(
    bare: World, scope: str, chosen: dict[str, bool], lacking: str | None
) -> None:
    """A missing scope is named and nothing is written; writing tickets is asked for only if it is wanted."""
    client = client_with(bare, scope)
    if lacking is None:
        ready(bare, client=client, **chosen)
        return
    with pytest.raises(FixFirst, match=f"it lacks .*{lacking}"):
        ready(bare, client=client, **chosen)
    assert bare.writes() == 0


def test_the_choice_about_tickets_is_kept(bare: World) -> None:
    """Whether organizations are set on tickets is remembered, left as it is when not asked for, and taken back."""

    def kept() -> bool:
        return identity.account_at(bare.ledger, bare.account.base_url).set_ticket_organization

    ready(bare)
    assert not kept()
    conditions = {"all": [{"field": "update_type", "operator": "is", "value": "Change"}], "any": []}
    mail = [{"field": "notification_user", "value": ["requester_id", "Subject", "Body"]}]
    bare.zendesk.triggers.create({"title": "Tell the requester", "conditions": conditions, "actions": mail})
    done = ready(bare, set_ticket_organization=True)
    assert kept()
    assert [one for one in done.todo if "Tell the requester" in one]
    ready(bare)
    assert kept()
    ready(bare, set_ticket_organization=False)
    assert not kept()


@pytest.mark.parametrize(
    ("active", "conditions", "fires"),
    [
        (True, [("update_type", "is", "Change")], True),
        (True, [("status", "is", "open")], True),
        (True, [("organization_id", "changed", None)], True),
        (False, [("update_type", "is", "Change")], False),
        (True, [("update_type", "is", "Create")], False),
        (True, [("status", "value", "solved")], False),
        (True, [("priority", "changed", None), ("update_type", "is", "Change")], False),
    ],
    ids=[
        "any update", "whatever is open", "a changed organization", "switched off", "new tickets", "just solved",
        "a changed priority",
    ],
)  # fmt: skip
def test_triggers_that_may_fire_are_known(active: bool, conditions: list[tuple[str, ...]], fires: bool) -> None:
    """Setting an organization fires what an update fires, unless all of it asks for something else."""
    spelt = [dict(zip(("field", "operator", "value"), one, strict=True)) for one in conditions]
    assert fires_on_organization({"active": active, "conditions": {"all": spelt, "any": []}}) is fires


# -- a delivery for a test ---------------------------------------------------------------------------------------------


def receiver_of(ledger: Ledger, vault: Vault) -> Starlette:
    """A receiver as Airflow's api-server has it."""
    return Starlette(routes=[Mount("/qadzd", receiver_app(lambda: ledger, lambda: vault))])


@pytest.mark.parametrize("route", ["events", "triggers"])
def test_zendesks_test_delivery_arrives_and_then_a_real_one(bare: World, route: str) -> None:
    """The run ends once Zendesk's delivery is in the ledger; a solved ticket then comes the same way."""
    with served(receiver_of(bare.ledger, bare.vault)) as url:
        done = ready(bare, url, route=route, test_delivery=True)
        (tested,) = done.did("tested")
        assert tested.startswith("Zendesk's test delivery arrived")
        assert [(row["inbox_state"], row["reason"]) for row in bare.rows("inbox")] == [("drained", "onboarding's test")]
        ticket_id = live(bare, "solved")[0]
        change(bare, ticket_id, status="solved", wait=True)
    found = drained(bare)
    assert (found.aside, found.moved) == (0, 1)
    assert "solved" in {row["kind"] for row in bare.rows("ticket_event", ticket_id=ticket_id)}


def test_a_receiver_that_nobody_reaches_is_told(bare: World) -> None:
    """With everything made and told, the run fails with what Zendesk was answered, and what to do."""
    told: list[str] = []
    choices = Choices("http://127.0.0.1:9")
    with pytest.raises(FixFirst, match=r"was answered by nobody\. Let Zendesk reach the receiver"):
        onboard(bare.ledger, bare.account, bare.zendesk, bare.secrets, choices, told.append)
    assert len([one for one in told if one.startswith("made ")]) == FIELDS + 1
    assert "An admin must still:\n  - Serve the receiver over https" in told[-1]
    assert [row["status"] for row in bare.there()["webhooks"]] == ["active"]


def test_a_receiver_with_another_ledger_is_told(bare: World, tmp_path: Path) -> None:
    """A delivery that is answered 202 and is not in this ledger went into another one."""
    other = Ledger(f"sqlite:///{tmp_path}/other.db").opened()
    account = identity.account_at(other, bare.account.base_url)
    with served(receiver_of(other, bare.vault)) as url, pytest.raises(FixFirst, match="401"):
        ready(bare, url, test_delivery=True)
    secrets = Secrets(other, bare.vault, account.holder)
    identity.note_onboarding(other, account.account_id, "w")
    for name, secret in signing(bare).items():
        secrets.put(name, secret)
    with served(receiver_of(other, bare.vault)) as url, pytest.raises(FixFirst, match="has another ledger"):
        ready(bare, url, test_delivery=True)
    other.engine.dispose()


# -- undoing it --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["events", "triggers"])
def test_removing_takes_away_what_was_made(bare: World, route: str) -> None:
    """Triggers, webhook and secret go, fields and their values stay; the exports keep their place; twice is once."""
    before = bare.there()
    ready(bare, route=route, set_ticket_organization=True)
    cursors = bare.rows("export_cursor")
    done = remove(bare.ledger, bare.account, bare.zendesk, bare.secrets, URL)
    there = bare.there()
    assert (there["webhooks"], there["triggers"], signing(bare)) == ([], [], {})
    assert len(there["organization_fields"]) > len(before["organization_fields"])
    (account,) = bare.rows("account")
    assert (account["webhook_id"], account["set_ticket_organization"]) == (None, False)
    assert bare.rows("export_cursor") == cursors
    assert len(done.did("removed")) == (5 if route == "triggers" else 2)
    assert remove(bare.ledger, bare.account, bare.zendesk, bare.secrets, URL).steps == []


def test_removing_takes_the_fields_if_asked(bare: World) -> None:
    """With fields, the account is as it was before onboarding; others' fields stay."""
    before = bare.there()
    ready(bare)
    remove(bare.ledger, bare.account, bare.zendesk, bare.secrets, URL, fields=True)
    there = bare.there()
    assert [there[name] for name in ("organization_fields", "user_fields", "webhooks", "triggers")] == [
        before[name] for name in ("organization_fields", "user_fields", "webhooks", "triggers")
    ]
