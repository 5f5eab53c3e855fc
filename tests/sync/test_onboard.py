"""Getting an account ready: what is missing is made, what is there is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_qadzd.ledger.vault import Secrets
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sync.mapping import ORGANIZATION_FIELDS, USER_FIELDS
from airflow_provider_qadzd.sync.onboard import EVENT_TYPES, Onboarded, onboard
from tests.sync.world import World, world_of

URL = "https://qadzd.example"
THINGS = len(ORGANIZATION_FIELDS) + len(USER_FIELDS) + 1
"""Our fields and the webhook."""


@pytest.fixture
def bare(sync_sandbox: Sandbox, ledger_path: Path) -> Iterator[World]:
    """An account that nothing was set up in."""
    with world_of(sync_sandbox, ledger_path, (3, 3, 3), fields=False) as world:
        yield world


def ready(world: World, url: str = URL) -> Onboarded:
    """Onboard the account."""
    return onboard(world.ledger, world.account, world.zendesk, world.secrets, url)


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
    assert len(done.made) == THINGS
    midnight = int(bare.clock.time() // 86_400 * 86_400)
    assert {row["leg"]: row["position"] for row in bare.rows("export_cursor")} == {
        "tickets": f"start:{midnight}",
        "ticket_events": f"start:{midnight}",
    }
    (account,) = bare.rows("account")
    assert account["webhook_id"] == webhook["id"]
    assert done.summary().startswith("Made: organization field qad_customer")


def test_a_second_run_changes_nothing(bare: World) -> None:
    """Run again, days later: nothing is made, no write is asked for, and the exports keep their place."""
    ready(bare)
    before, account, cursors = bare.there(), bare.rows("account"), bare.rows("export_cursor")
    bare.count_anew()
    bare.clock.sleep(3 * 86_400)
    done = ready(bare)
    assert (done.made, len(done.kept), bare.writes()) == ([], THINGS, 0)
    after = bare.there()
    assert {**after, "now": None} == {**before, "now": None}
    assert (bare.rows("account"), bare.rows("export_cursor")) == (account, cursors)
    assert done.summary().startswith(f"Made: nothing. Already there: {THINGS} things.")


def test_a_moved_receiver_repoints_the_webhook(bare: World) -> None:
    """Another receiver's address changes the one webhook's endpoint; its secret and its id stay."""
    first = ready(bare)
    (before,) = bare.there()["webhooks"]
    second = ready(bare, "https://moved.example/")
    (after,) = bare.there()["webhooks"]
    assert after["endpoint"] == f"https://moved.example/qadzd/webhooks/zendesk/{bare.account.slug}"
    assert (after["id"], after["signing_secret"]) == (before["id"], before["signing_secret"])
    assert second.made == ["webhook (pointed here again)"]
    assert first.webhook_id == second.webhook_id


def test_a_webhook_that_was_switched_off_is_switched_on(bare: World) -> None:
    """A webhook that somebody deactivated is active again after onboarding."""
    done = ready(bare)
    bare.zendesk.webhooks.update(done.webhook_id, {"status": "inactive"})
    ready(bare)
    assert [row["status"] for row in bare.there()["webhooks"]] == ["active"]


def test_the_signing_secret_is_sealed(bare: World, ledger_path: Path) -> None:
    """The secret can be had from the vault, and stands nowhere in the ledger's files in plain text."""
    done = ready(bare)
    (webhook,) = bare.there()["webhooks"]
    kept = Secrets(bare.ledger, bare.vault, bare.account.holder).with_prefix("signing:")
    assert kept == {f"signing:{done.webhook_id}": webhook["signing_secret"]}
    files = list(ledger_path.parent.glob("ledger.db*"))
    assert files
    assert not [file for file in files if webhook["signing_secret"].encode() in file.read_bytes()]
    assert webhook["signing_secret"] not in f"{done} {done.summary()}"


def test_a_reset_secret_replaces_the_old_one(bare: World) -> None:
    """After the secret was reset in Zendesk, onboarding brings the new one."""
    done = ready(bare)
    fresh = bare.zendesk.webhooks.reset_signing_secret(done.webhook_id)
    ready(bare)
    assert list(bare.secrets.with_prefix("signing:").values()) == [fresh]
