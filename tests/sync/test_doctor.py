"""The doctor itself, and its checks of a connection over a real socket: a healthy one, and each way to break it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_qadzd.errors import Facts, FixFirst, TryLater
from airflow_provider_qadzd.findings import Check, Finding, as_table, examine, failed, summary
from airflow_provider_qadzd.records import SystemClock
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sync import doctor, doctor_setup
from airflow_provider_qadzd.sync.doctor import Patient
from airflow_provider_qadzd.zendesk.connection import ZendeskSettings
from airflow_provider_qadzd.zendesk.probe import Heard
from tests.sync.clinic import Clinic, Opened, onboarded, verdicts

ADMIN = {"id": 1, "name": "Ada", "role": "admin"}


@pytest.fixture
def clinic(sync_sandbox: Sandbox, ledger_path: Path) -> Iterator[Clinic]:
    """A small account, onboarded."""
    with onboarded(sync_sandbox, ledger_path) as found:
        yield found


def spoilt(clinic: Clinic, **row: Any) -> None:
    """`users/me` shows another user from now on."""
    clinic.world.fault("GET /api/v2/users/me", status=200, body={"user": {**ADMIN, **row}}, times=None)


# -- a healthy account -------------------------------------------------------------------------------------------------


def test_a_healthy_account_has_no_complaint(clinic: Clinic) -> None:
    """Everything is ok in an account that was just onboarded, and each finding says what was seen."""
    found = clinic.examined()
    assert {one.verdict for one in found.values()} == {"ok"}, as_table(list(found.values()))
    assert len(found) == 14
    assert "700 calls a minute" in found["rate limit"].what
    assert "is 489" in found["rate limit"].what
    assert all(one.what and not one.advice for one in found.values())


def test_no_secret_is_in_a_finding(clinic: Clinic) -> None:
    """Neither the client's secret nor a token nor a signing secret is told, in health and in failure."""
    (webhook,) = clinic.world.there()["webhooks"]
    healthy = str(clinic.examined())
    clinic.world.zendesk.webhooks.reset_signing_secret(webhook["id"])
    (after,) = clinic.world.there()["webhooks"]
    clinic.secret = "wrong-secret-8"
    told = healthy + str(clinic.examined()) + str(doctor_setup.signing_secret(Clinic(clinic.world).patient()))
    for secret in (webhook["signing_secret"], after["signing_secret"], "wrong-secret-8", "Bearer"):
        assert secret not in told


# -- the connection ----------------------------------------------------------------------------------------------------


def test_a_wrong_secret_is_one_failure(clinic: Clinic) -> None:
    """With a wrong client secret the credentials fail, naming the connection, and what rests on them is skipped."""
    clinic.secret = "wrong"
    found = clinic.examined()
    assert verdicts(found, "fail") == ["credentials"]
    assert "connection zd" in found["credentials"].what
    assert set(verdicts(found, "ok")) == {"Zendesk address", "clock", "receiver address"}
    assert found["role"].what == "skipped because of: credentials"
    assert found["deliveries"].verdict == "skipped"


def test_an_anonymous_visitor_is_nobody(clinic: Clinic) -> None:
    """A 200 with the anonymous user is a failure of the credentials; for an API token it says what to check."""
    clinic.settings, clinic.secret = ZendeskSettings(auth="api_token"), "not-the-token"
    found = clinic.examined()
    assert verdicts(found, "fail") == ["credentials"]
    assert "the API token" in found["credentials"].advice


def test_an_agent_is_not_enough(clinic: Clinic) -> None:
    """Whoever is no admin fails the role, and setup is not looked at with such eyes."""
    spoilt(clinic, role="agent")
    found = clinic.examined()
    assert verdicts(found, "fail") == ["role"]
    assert "'agent'" in found["role"].what
    assert found["webhook"].verdict == "skipped"


def test_an_unknown_scope_is_named(clinic: Clinic) -> None:
    """A misspelt scope, with which every call is 403, is one failure that names it and the nearest known one."""
    clinic.settings = ZendeskSettings(scope="read wirte")
    found = clinic.examined()
    assert verdicts(found, "fail") == ["credentials"]
    assert "'wirte'" in found["credentials"].advice
    assert "'write'" in found["credentials"].advice


@pytest.mark.parametrize(
    ("scope", "verdict", "told"),
    [
        ("read", "fail", "it lacks users:write"),
        ("users:read users:write organizations:read", "fail", "it lacks organizations:write"),
        ("read tickets:write users:write organizations:write webhooks:write triggers:write", "ok", "exports and jobs"),
        (" ".join(doctor.NEEDED_SCOPES), "ok", "exports and jobs can be read"),
        ("read write impersonate", "ok", "impersonate read write"),
    ],
    ids=["read alone", "some narrow ones", "mixed", "all narrow ones", "more than needed"],
)
def test_scopes_must_cover_what_is_used(scope: str, verdict: str, told: str, clinic: Clinic) -> None:
    """What the token may do is held against what this package uses."""
    clinic.settings = ZendeskSettings(scope=scope)
    found = doctor.scopes(clinic.patient())
    assert (found.verdict, told in found.what) == (verdict, True), found


def test_narrow_scopes_that_do_not_cover_exports_fail(clinic: Clinic) -> None:
    """Where narrow scopes turn out not to cover jobs or exports, that path is named."""
    clinic.settings = ZendeskSettings(scope=" ".join(doctor.NEEDED_SCOPES))
    body = {"error": "Forbidden", "description": "You are missing the following required scopes: read"}
    clinic.world.fault("GET /api/v2/incremental/*", status=403, body=body, times=None)
    found = doctor.scopes(clinic.patient())
    assert found.verdict == "fail"
    assert "/api/v2/incremental/users" in found.what
    assert "read write" in found.advice


def test_a_token_older_than_the_setting_is_told(clinic: Clinic) -> None:
    """A scope that was added to the connection after the token was given is a warning."""
    patient = clinic.patient()
    assert isinstance(patient.opened, Opened)
    patient.opened.settings = ZendeskSettings(scope="read write impersonate")
    found = doctor.scopes(patient)
    assert found.verdict == "warn"
    assert "impersonate" in found.what


def test_an_api_token_warns_of_its_end(clinic: Clinic) -> None:
    """An API token works and has no scopes; the day of its end is told."""
    clinic.settings = ZendeskSettings(auth="api_token")
    found = doctor.scopes(clinic.patient())
    assert (found.verdict, "2027-04-30" in found.what) == ("warn", True)


# -- address, time and pace --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"action": "html", "status": 404}, "no Zendesk account"),
        ({"status": 302, "headers": {"Location": "https://support.example"}}, "redirects away"),
        ({"action": "html", "status": 200}, "is not Zendesk's API"),
        ({"action": "html", "status": 403}, "is not Zendesk's API"),
        ({"status": 503}, "not available"),
    ],
    ids=["a page that says 404", "a redirect", "a page", "a wall in front", "away"],
)
def test_what_is_not_zendesk_is_one_failure(how: dict[str, Any], told: str, clinic: Clinic) -> None:
    """A host that is no Zendesk account fails its address, says what to check, and all else is skipped."""
    clinic.world.fault("GET /api/v2/users/me", times=None, **how)
    found = clinic.examined()
    assert verdicts(found, "fail") == ["Zendesk address"]
    assert told in found["Zendesk address"].what
    assert found["Zendesk address"].advice
    assert verdicts(found, "ok") == ["receiver address"]
    assert len(verdicts(found, "skipped")) == 12


def test_a_host_that_nobody_answers_at(clinic: Clinic) -> None:
    """Nobody listening is a failure of the address, told once."""
    clinic.address = "http://127.0.0.1:1"
    found = doctor.reachable(clinic.patient())
    assert found.verdict == "fail"
    assert "cannot be reached" in found.what
    assert "proxy" in found.advice


@pytest.mark.parametrize(
    ("ahead", "verdict", "told"),
    [
        (27, "ok", "agrees"), (33, "warn", "ahead of"), (-33, "warn", "behind"), (297, "warn", "ahead of"),
        (303, "fail", "refused as stale"), (-400, "fail", "behind"),
    ],
    ids=["under 30 s", "over 30 s", "as much behind", "under the tolerance", "over it", "far behind"],
)  # fmt: skip
def test_clocks_are_compared(ahead: float, verdict: str, told: str, clinic: Clinic) -> None:
    """Above 30 seconds the skew is a warning, above the webhook's tolerance a failure."""

    class Wrong(SystemClock):
        def time(self) -> float:
            return super().time() + ahead

    clinic.clock = Wrong()
    found = doctor.clock(clinic.patient())
    assert (found.verdict, told in found.what) == (verdict, True), found


def test_an_answer_without_a_date_is_no_verdict() -> None:
    """What an answer does not tell is a warning, not a guess."""
    patient = Patient(None, lambda: "", lambda _signed: Heard())  # type: ignore[arg-type]
    assert doctor.clock(patient).verdict == "warn"


@pytest.mark.parametrize(
    ("limit", "share", "verdict"), [(100, 0.5, "ok"), (99, 0.5, "warn"), (10, 0.7, "warn")],
    ids=["fifty", "forty-nine", "the smallest plan"],
)  # fmt: skip
def test_a_small_share_of_the_plan_is_told(limit: int, share: float, verdict: str, clinic: Clinic) -> None:
    """Below fifty calls a minute there is a warning."""
    clinic.world.sandbox.post_control("limits", {"requests_per_minute": limit})
    clinic.settings = ZendeskSettings(rate_share=share)
    found = doctor.rate(clinic.patient())
    assert (found.verdict, f"allows {limit} calls" in found.what) == (verdict, True), found


def test_a_plan_that_is_not_told_is_a_warning(clinic: Clinic) -> None:
    """Without the header nothing is claimed of the plan."""
    clinic.world.sandbox.post_control("limits", {"enabled": False})
    assert clinic.examined()["rate limit"].verdict == "warn"


@pytest.mark.parametrize(("set_to", "told"), [("auto", "Unknown"), ("on", "Set to on"), ("off", "one by one")])
def test_bulk_import_is_not_probed(set_to: str, told: str, clinic: Clinic) -> None:
    """What the connection says of bulk import is told; nobody is created to find out."""
    clinic.settings = ZendeskSettings(bulk_import=set_to)
    found = doctor.bulk(clinic.patient())
    assert (found.verdict, told in found.what) == ("ok", True)


# -- the doctor itself -------------------------------------------------------------------------------------------------


def finding(name: str, verdict: Any) -> Callable[[], Finding]:
    """A check's look that finds this."""
    return lambda: Finding(name, verdict, "seen")


def test_what_rests_on_a_failure_is_skipped() -> None:
    """A skipped check's own dependents are skipped as well; a warning, or a check skipped by itself, stops nobody."""
    found = examine(
        [
            Check("a", finding("a", "fail")),
            Check("b", finding("b", "ok"), ("a",)),
            Check("c", finding("c", "ok"), ("b",)),
            Check("d", finding("d", "warn")),
            Check("e", finding("e", "skipped"), ("d",)),
            Check("f", finding("f", "ok"), ("e",)),
        ]
    )
    assert [one.verdict for one in found] == ["fail", "skipped", "skipped", "warn", "skipped", "ok"]
    assert [one.what for one in found][1:3] == ["skipped because of: a", "skipped because of: b"]
    assert summary(found) == "6 checks: 1 ok, 1 warnings, 1 failures, 3 skipped"


def raising(error: Exception) -> Callable[[], Finding]:
    """A check's look that raises."""

    def look() -> Finding:
        raise error

    return look


@pytest.mark.parametrize(
    ("error", "verdict", "told"),
    [
        (FixFirst("No.", advice="Do it.", facts=Facts(status=403)), "fail", "No. [status=403]"),
        (TryLater("Busy.", facts=Facts(status=429)), "warn", "Busy. [status=429]"),
        (TryLater("Used up.", facts=Facts(code="BudgetUsedUp")), "warn", "Used up. [code=BudgetUsedUp]"),
        (TryLater("Away."), "fail", "Away."),
        (KeyError("s3cret"), "fail", "This check broke: KeyError."),
    ],
    ids=["a person must look", "a limit", "our own budget", "away", "a bug"],
)
def test_no_check_ends_the_others(error: Exception, verdict: str, told: str) -> None:
    """Whatever a check raises becomes its finding; only a limit for the moment is a mere warning."""
    first, second = examine([Check("a", raising(error)), Check("b", finding("b", "ok"))])
    assert (first.verdict, first.what) == (verdict, told)
    assert first.advice
    assert second.verdict == "ok"


def test_what_rests_on_a_limit_is_skipped() -> None:
    """A check that a used-up limit kept from its end warns once; what rests on it is skipped: too little was seen."""
    busy = TryLater("Busy.", facts=Facts(status=429))
    found = examine([Check("a", raising(busy)), Check("b", finding("b", "ok"), ("a",))])
    assert [one.verdict for one in found] == ["warn", "skipped"]
    assert failed(found)
    assert not failed(found[:1])


def test_the_table_is_aligned() -> None:
    """Sentences begin in one column, an advice stands under its sentence, and the counts come last."""
    table = as_table([Finding("a", "ok", "Well."), Finding("a longer one", "fail", "Ill.", "Rest.")])
    assert table.splitlines() == [
        "ok      a             Well.",
        "fail    a longer one  Ill.",
        "                      -> Rest.",
        "2 checks: 1 ok, 0 warnings, 1 failures",
    ]
