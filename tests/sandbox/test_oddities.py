"""What can be made to go wrong: jobs in every way that was seen, the language of errors, tokens, and Retry-After."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_qadzd.sandbox import Sandbox

from .conftest import Client

CREATE_MANY = "/api/v2/organizations/create_many"
TAKEN = [{"name": "One"}, {"name": "Two"}, {"name": "two"}, {"name": "Four"}]


def organizations(sandbox: Sandbox) -> int:
    """How many there are."""
    return int(sandbox.get_control("state")["counts"]["organizations"])


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        ("usual", {"id", "action", "success", "error", "details"}),
        ("documented", {"id", "action", "success", "error", "details"}),
        ("index", {"index", "error", "details"}),
        ("id", {"id", "status", "email", "external_id", "error", "details"}),
    ],
)
def test_failed_rows_come_in_every_form(sandbox: Sandbox, zendesk: Client, form: str, keys: set[str]) -> None:
    """A failed row has the form that was set, there is a row for each input, and the job is completed all the same."""
    sandbox.post_control("settings", {"job_failed_items": form})
    job = zendesk.job(zendesk.post(CREATE_MANY, {"organizations": TAKEN}))
    assert (job["status"], len(job["results"]), job["progress"]) == ("completed", 4, 4)
    assert set(job["results"][2]) == keys
    assert job["results"][2].get("id") == (1 if form == "id" else None)


def test_a_failed_row_by_index_names_its_error_by_kind(sandbox: Sandbox, zendesk: Client) -> None:
    """A job of which every row failed by index is failed, and the code is made of what it could not do."""
    sandbox.post_control("settings", {"job_failed_items": "index"})
    job = zendesk.job(zendesk.post("/api/v2/users/create_or_update_many", {"users": [{"name": "", "email": "a@b.cd"}]}))
    assert (job["status"], job["results"][0]["error"]) == ("failed", "UserCreateFailed")


@pytest.mark.parametrize("results", ["rows", "null"])
def test_a_job_breaks_off_half_way(sandbox: Sandbox, zendesk: Client, results: str) -> None:
    """The rows before the break took effect; the job is failed and tells of those rows, or of none."""
    before = organizations(sandbox)
    sandbox.post_control("settings", {"job_fails_after": 2, "job_results": results})
    job = zendesk.job(zendesk.post(CREATE_MANY, {"organizations": TAKEN}))
    assert (job["status"], job["total"], job["progress"]) == ("failed", 4, 2)
    assert job["results"] is None if results == "null" else len(job["results"]) == 2
    assert organizations(sandbox) == before + 2


@pytest.mark.parametrize(("how", "listed"), [("alone", True), ("everywhere", False)])
def test_a_job_vanishes(sandbox: Sandbox, zendesk: Client, how: str, listed: bool) -> None:
    """An ended job is 404 although its rows are there; lists still know it, or do not either."""
    before = organizations(sandbox)
    sandbox.post_control("settings", {"job_vanishes": how})
    job_id = zendesk.post(CREATE_MANY, {"organizations": [{"name": "One"}]}).json()["job_status"]["id"]
    assert zendesk.get(f"/api/v2/job_statuses/{job_id}").status_code == 404
    assert len(zendesk.get("/api/v2/job_statuses/show_many", ids=job_id).json()["job_statuses"]) == listed
    assert len(zendesk.get("/api/v2/job_statuses").json()["job_statuses"]) == listed
    assert organizations(sandbox) == before + 1


@pytest.mark.parametrize("ends", ["completed", "failed", "killed"])
def test_a_job_ends_as_it_is_told(sandbox: Sandbox, zendesk: Client, ends: str) -> None:
    """The last status is the one that was set, whatever became of the rows, and the message may be missing."""
    sandbox.post_control("settings", {"job_ends": ends, "job_message": "null"})
    job = zendesk.job(zendesk.post(CREATE_MANY, {"organizations": TAKEN}))
    assert (job["status"], job["message"]) == (ends, None)


def test_a_fault_spoils_one_job(sandbox: Sandbox, zendesk: Client) -> None:
    """The action job lets the call through and makes its job odd; the next job is as usual."""
    job = {"fails_after": 1, "results": "null", "delay": 5}
    sandbox.post_control("faults", {"match": f"POST {CREATE_MANY}", "action": "job", "job": job})
    started = zendesk.post(CREATE_MANY, {"organizations": TAKEN})
    assert zendesk.job(started)["status"] == "queued"
    sandbox.post_control("clock", {"advance": 5})
    assert [zendesk.job(started)[key] for key in ("status", "results")] == ["failed", None]
    assert zendesk.job(zendesk.post(CREATE_MANY, {"organizations": [{"name": "Next"}]}))["status"] == "completed"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", {"match": "*", "action": "job", "job": {"fails": 1}}),
        ("faults", {"match": "*", "action": "job", "job": {"vanishes": "soon"}}),
        ("settings", {"job_vanishes": "soon"}),
        ("settings", {"language": "fr"}),
    ],
    ids=["a misspelt name", "an unknown value", "an unknown value of a setting", "an unknown language"],
)
def test_an_unknown_oddity_is_refused(sandbox: Sandbox, path: str, body: dict[str, Any]) -> None:
    """What is not known is an error, not an oddity that never comes."""
    with pytest.raises(ValueError, match="400"):
        sandbox.post_control(path, body)


@pytest.mark.parametrize("language", ["en", "es", "zh"])
def test_errors_are_told_in_a_language(sandbox: Sandbox, zendesk: Client, language: str) -> None:
    """Texts are in the acting user's language, codes are not."""
    english = zendesk.post("/api/v2/organizations", {"organization": {"name": ""}}).json()
    sandbox.post_control("settings", {"language": language})
    told = zendesk.post("/api/v2/organizations", {"organization": {"name": ""}}).json()
    assert (told == english) is (language == "en")
    assert told["error"] == "RecordInvalid"
    assert told["details"]["name"][0]["error"] == "BlankValue"
    job = zendesk.job(zendesk.post(CREATE_MANY, {"organizations": TAKEN}))
    assert ("taken" in job["results"][2]["details"]) is (language == "en")


def test_details_may_come_without_codes(sandbox: Sandbox, zendesk: Client) -> None:
    """With detail_codes off a refused record says what is wrong in words alone."""
    sandbox.post_control("settings", {"detail_codes": False})
    told = zendesk.post("/api/v2/organizations", {"organization": {"name": ""}}).json()
    assert (told["error"], set(told["details"]["name"][0])) == ("RecordInvalid", {"description"})


@pytest.mark.parametrize(("expiry", "shown"), [("null", {"expires_in": None}), ("absent", {})])
def test_a_token_may_be_silent_about_its_end(
    sandbox: Sandbox, nobody: Client, expiry: str, shown: dict[str, Any]
) -> None:
    """expires_in is null or absent, and the token dies all the same."""
    sandbox.post_control("settings", {"token_expiry": expiry})
    body = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox", "scope": "read"}
    token = nobody.post("/oauth/tokens", body).json()
    assert {key: token[key] for key in token if key == "expires_in"} == shown
    nobody.session.headers["Authorization"] = f"Bearer {token['access_token']}"
    assert nobody.get("/api/v2/oauth/tokens/current").json()["token"]["expires_at"] is None
    sandbox.post_control("clock", {"advance": 1801})
    assert nobody.get("/api/v2/users").status_code == 401


@pytest.mark.parametrize(
    ("registered", "status"),
    [(None, 302), (["https://here.example/cb"], 302), (["https://here.example/"], 400)],
    ids=["any", "this one", "another"],
)
def test_redirect_addresses_may_be_registered(
    sandbox: Sandbox, nobody: Client, registered: list[str] | None, status: int
) -> None:
    """Consent goes to a registered address only, and it must match to the letter."""
    sandbox.post_control("settings", {"redirect_uris": registered})
    query = {"response_type": "code", "client_id": "sandbox", "redirect_uri": "https://here.example/cb"}
    reply = nobody.get("/oauth/authorizations/new", **query)
    assert reply.status_code == status
    if status == 302:
        assert parse_qs(urlsplit(reply.headers["location"]).query)["code"]


@pytest.mark.parametrize(
    "text",
    ["2", "1.5", "-3", "99999999999", "soon", ""],
    ids=["whole", "decimal", "negative", "absurd", "words", "empty"],
)
def test_retry_after_in_any_text(sandbox: Sandbox, zendesk: Client, text: str) -> None:
    """A refusal carries whatever Retry-After it is told."""
    sandbox.post_control("faults", {"match": "GET *", "status": 429, "retry_after": text})
    assert zendesk.get("/api/v2/users/me").headers["retry-after"] == text


def test_retry_after_as_a_date_of_the_sandbox(sandbox: Sandbox, zendesk: Client) -> None:
    """retry_after_date counts from the sandbox's clock at the moment of the refusal."""
    sandbox.post_control("clock", {"frozen": True, "now": "2026-01-31T08:15:30Z"})
    sandbox.post_control("faults", {"match": "GET *", "status": 429, "retry_after_date": 30})
    sandbox.post_control("clock", {"advance": 60})
    told = parsedate_to_datetime(zendesk.get("/api/v2/users/me").headers["retry-after"])
    assert told.isoformat() == "2026-01-31T08:17:00+00:00"
