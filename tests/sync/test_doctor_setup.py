"""The doctor's checks of what was set up: fields, webhook, secrets, whose account it is, and silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from airflow_provider_qadzd.findings import Check, examine
from airflow_provider_qadzd.ledger.vault import SealedRow, Vault
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sync import doctor_setup
from airflow_provider_qadzd.sync.export import Run, export_live
from airflow_provider_qadzd.sync.onboard import EVENT_TYPES, WEBHOOK_NAME, onboard
from tests.sync.clinic import URL, Clinic, onboarded, verdicts
from tests.sync.test_deliveries import change, deliver, event, live
from tests.sync.world import World, world_of


@pytest.fixture
def clinic(sync_sandbox: Sandbox, ledger_path: Path) -> Iterator[Clinic]:
    """A small account, onboarded."""
    with onboarded(sync_sandbox, ledger_path) as found:
        yield found


def webhook_id(clinic: Clinic) -> str:
    """The id of our webhook."""
    (row,) = clinic.world.there()["webhooks"]
    return str(row["id"])


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda fields: fields.clear(), "organization field qad_customer is missing, organization field qad_status"),
        (lambda fields: next(iter(fields.values())).update(active=False), "is inactive"),
        (lambda fields: next(iter(fields.values())).update(type="dropdown"), "is of type dropdown instead of text"),
    ],
    ids=["missing", "inactive", "mistyped"],
)
def test_fields_must_be_usable(spoil: Callable[[dict[int, Any]], None], told: str, clinic: Clinic) -> None:
    """A field that is missing, inactive or of another type is named; the webhook is still looked at."""
    store = clinic.world.sandbox.state.zendesk
    ours = {key: row for key, row in store.organization_fields.items() if row["key"].startswith("qad_")}
    spoil(ours)
    if not ours:
        store.organization_fields.clear()
    found = clinic.examined()
    assert verdicts(found, "fail") == ["our fields"]
    assert told in found["our fields"].what
    assert "qadzd_onboard" in found["our fields"].advice
    assert found["webhook"].verdict == "ok"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"status": "inactive"}, "is inactive"),
        ({"endpoint": "https://elsewhere.example/hook"}, "points to https://elsewhere.example/hook"),
        ({"name": "renamed"}, "no webhook"),
    ],
    ids=["inactive", "pointing elsewhere", "renamed"],
)
def test_the_webhook_must_work_for_us(values: dict[str, str], told: str, clinic: Clinic) -> None:
    """A webhook that is not ours any more is a failure, and its secret and deliveries are skipped."""
    clinic.world.zendesk.webhooks.update(webhook_id(clinic), values)
    found = clinic.examined()
    assert verdicts(found, "fail") == ["webhook"]
    assert told in found["webhook"].what
    assert verdicts(found, "skipped") == ["signing secret", "triggers", "deliveries"]


def test_another_webhook_of_our_name_is_told(clinic: Clinic) -> None:
    """A webhook that was deleted and made again by hand is not the one that the ledger knows."""
    (row,) = clinic.world.there()["webhooks"]
    clinic.world.zendesk.webhooks.delete(row["id"])
    body = {name: row[name] for name in ("name", "endpoint", "http_method", "request_format", "subscriptions")}
    clinic.world.zendesk.webhooks.create(body)
    found = doctor_setup.webhook(clinic.patient())
    assert (found.verdict, "not the one" in found.what) == ("fail", True)


@pytest.mark.parametrize(
    ("subscriptions", "verdict", "told"),
    [
        (EVENT_TYPES[2:], "warn", "created, status_changed"),
        (["conditional_ticket_events"], "ok", "driven by triggers"),
    ],
    ids=["some events", "triggers"],
)
def test_subscriptions_are_compared(
    subscriptions: list[str], verdict: str, told: str, clinic: Clinic
) -> None:  # fmt: skip
    """Events that the webhook is not told of are named; one that triggers drive has its triggers skipped, with why."""
    row = clinic.world.sandbox.state.zendesk.webhooks[webhook_id(clinic)]
    row["subscriptions"] = list(subscriptions)
    found = clinic.examined()
    assert (found["webhook"].verdict, told in found["webhook"].what) == (verdict, True), found["webhook"]
    assert found["triggers"].verdict == ("skipped" if verdict == "ok" else "ok")


def test_a_reset_signing_secret_is_told(clinic: Clinic) -> None:
    """A secret that was reset in Zendesk is a failure, until onboarding brings it."""
    clinic.world.zendesk.webhooks.reset_signing_secret(webhook_id(clinic))
    assert verdicts(clinic.examined(), "fail") == ["signing secret"]
    onboard(clinic.world.ledger, clinic.world.account, clinic.world.zendesk, clinic.world.secrets, URL)
    assert not verdicts(clinic.examined(), "fail")


def test_a_secret_that_was_never_kept_is_told(clinic: Clinic) -> None:
    """Without the webhook's secret every delivery is refused, so that is a failure."""
    found = doctor_setup.signing_secret(replace(clinic.patient(), signing=dict))
    assert (found.verdict, "not in the vault" in found.what) == ("fail", True)


def test_a_lost_vault_key_is_told(clinic: Clinic) -> None:
    """With another vault key the token cannot be opened, which the credentials tell together with the way out."""
    clinic.examined()
    clinic.vault = Vault([Fernet.generate_key().decode()])
    found = clinic.examined()
    assert verdicts(found, "fail") == ["credentials"]
    assert "sealed with key" in found["credentials"].what
    assert examine([Check("x", lambda: doctor_setup.signing_secret(clinic.patient()))])[0].verdict == "fail"


def sealed(name: str, opened_by: Any) -> SealedRow:
    """A sealed row, as the vault lists it."""
    return SealedRow("account:1", name, "abcd1234", opened_by)


@pytest.mark.parametrize(
    ("rows", "verdict", "told"),
    [
        ([], "ok", "all 0"),
        ([sealed("a", "newest")], "ok", "all 1"),
        ([sealed("a", "newest"), sealed("b", "older")], "warn", "b of account:1"),
        ([sealed("a", "older"), sealed("b", "none")], "fail", "b of account:1, sealed with key abcd1234"),
    ],
    ids=["nothing kept", "the newest key", "an older key", "no key"],
)
def test_every_sealed_row_must_open(rows: list[SealedRow], verdict: str, told: str) -> None:
    """A row for an older key is a warning to rotate, one that no key opens a failure."""
    found = doctor_setup.sealed_secrets(rows)
    assert (found.verdict, told in found.what) == (verdict, True), found
    assert ("rotate-keys" in found.advice) == (verdict == "warn")


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("https://hooks.example", "ok"), ("https://hooks.example/airflow/", "ok"), ("", "fail"),
        ("http://hooks.example", "fail"), ("hooks.example", "fail"), ("https://hooks.example/qadzd", "fail"),
        ("http://127.0.0.1:8080", "warn"),
    ],
)  # fmt: skip
def test_the_receiver_needs_a_public_address(url: str, verdict: str) -> None:
    """It must be https and somewhere else than this machine; it is not called."""
    found = doctor_setup.receiver_address(url)
    assert found.verdict == verdict, found


# -- whose account it is -----------------------------------------------------------------------------------------------


def replaced(world: World) -> None:
    """Another account answers at the same address: nothing of ours is in it."""
    with world.sandbox.state.lock:
        world.sandbox.state.zendesk.webhooks.clear()
        for row in world.sandbox.state.zendesk.organizations:
            row.external_id = None
            world.sandbox.state.zendesk.organizations.redraw(row)


def test_another_account_at_the_same_address_is_told(synced: World) -> None:
    """An account with neither our webhook nor a linked organization is another one, and its setup is not judged."""
    onboard(synced.ledger, synced.account, synced.zendesk, synced.secrets, URL)
    replaced(synced)
    found = Clinic(synced).examined()
    assert verdicts(found, "fail") == ["same account"]
    assert found["webhook"].what == "skipped because of: same account"


def test_a_deleted_webhook_is_not_another_account(synced: World) -> None:
    """Linked organizations prove the account where the webhook was deleted by hand."""
    onboard(synced.ledger, synced.account, synced.zendesk, synced.secrets, URL)
    synced.sandbox.state.zendesk.webhooks.clear()
    found = Clinic(synced).examined()
    assert found["same account"].verdict == "ok"
    assert "linked organizations are there" in found["same account"].what
    assert verdicts(found, "fail") == ["webhook"]


def test_a_new_account_has_nothing_to_compare(sync_sandbox: Sandbox, ledger_path: Path) -> None:
    """Before onboarding the account is not doubted; fields and webhook are what is missing."""
    with world_of(sync_sandbox, ledger_path, (3, 3, 3), fields=False) as world:
        found = Clinic(world).examined()
        assert found["same account"].verdict == "ok"
        assert verdicts(found, "fail") == ["our fields", "webhook"]
        assert WEBHOOK_NAME in found["webhook"].what


# -- silence -----------------------------------------------------------------------------------------------------------


def exported(world: World, run: str) -> int:
    """One run of the live export, after the settling time."""
    world.clock.sleep(130)
    return export_live(world.ledger, world.account.account_id, world.zendesk, Run("export", run)).repaired


def test_silent_webhooks_are_told(clinic: Clinic) -> None:
    """No delivery for hours while the export found changes is a warning; short of either there is none."""
    world = clinic.world
    exported(world, "1")
    world.clock.sleep(7 * 3600)
    assert doctor_setup.deliveries(clinic.patient()).verdict == "ok"
    change(world, live(world)[0], subject="Changed")
    assert exported(world, "2") == 1
    found = doctor_setup.deliveries(clinic.patient())
    assert found.verdict == "warn"
    assert "No delivery ever came" in found.what
    assert "1 changed tickets" in found.what
    assert doctor_setup.deliveries(clinic.patient(silent_hours=8)).verdict == "ok"


def test_a_delivery_ends_the_silence(clinic: Clinic) -> None:
    """After a delivery the hours and the changes are counted from it."""
    world = clinic.world
    world.clock.sleep(7 * 3600)
    change(world, live(world)[0], subject="Changed")
    exported(world, "1")
    assert deliver(world, event(live(world)[0]))
    found = doctor_setup.deliveries(clinic.patient())
    assert (found.verdict, "0 changes since then" in found.what) == ("ok", True)
    world.clock.sleep(5.9 * 3600)
    change(world, live(world)[1], subject="Changed again")
    exported(world, "2")
    assert doctor_setup.deliveries(clinic.patient()).verdict == "ok"
    world.clock.sleep(600)
    found = doctor_setup.deliveries(clinic.patient())
    assert (found.verdict, "The last delivery came at" in found.what) == ("warn", True)
