"""One record's decision, situation by situation, and the brake on many."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_qadzd.errors import UnsafePlan
from airflow_provider_qadzd.records import Candidate, Held
from airflow_provider_qadzd.sync.plan import Brake, Change, Settled, decide

O = Candidate(  # noqa: E741 - an organization
    "organization", "C1", "C1", {"name": "Acme", "external_id": "C1", "organization_fields.qad_city": "Leeds"},
    name_first="C1",
)  # fmt: skip
U = Candidate(
    "user", "7", "7", {"name": "Ada", "external_id": "7", "email": "ada@x.example", "phone": "1"}, name_first="7",
    email_first="7", email_folded="ada@x.example",
)  # fmt: skip
OURS: dict[str, Any] = {"name": "Acme", "external_id": "C1", "organization_fields.qad_city": "Leeds"}
ADA: dict[str, Any] = {"name": "Ada", "external_id": "7"}


def there(zendesk_id: int = 5, fields: dict[str, Any] | None = None, **more: Any) -> Held:
    """A record in Zendesk."""
    return Held(zendesk_id, fields or {}, f"digest-{zendesk_id}", **more)


def told(candidate: Candidate) -> tuple[Any, ...]:
    """A decision, shortened: what to do, its outcome, on whom, and the name or detail."""
    found = decide(candidate)
    if isinstance(found, Settled):
        return "settled", found.outcome, found.zendesk_id, found.detail
    return found.operation, found.outcome, found.zendesk_id, found.body.get("name")


FOUND_USER = there(5, ADA, role="end-user", email_folded="ada@x.example")


@pytest.mark.parametrize(
    ("candidate", "decision"),
    [
        pytest.param(O, ("create", "created", None, "Acme"), id="a new customer"),
        pytest.param(replace(O, aside="no_name"), ("settled", "set_aside", None, "no_name"), id="no name"),
        # the name
        pytest.param(
            replace(O, by_name=there(fields={"name": "Acme"})), ("update", "adopted", 5, None),
            id="the name is taken by an organization that nobody keyed: adopted",
        ),
        pytest.param(
            replace(O, by_name=there(fields=OURS)), ("settled", "adopted", 5, ""),
            id="adopted as it is, without a call",
        ),
        pytest.param(
            replace(O, by_name=there(linked_to="C0")), ("create", "created", None, "Acme (C1)"),
            id="the name is taken by another linked organization: suffix",
        ),
        pytest.param(
            replace(O, by_name=there(external_folded="crm-1")), ("create", "created", None, "Acme (C1)"),
            id="the name is taken by one that somebody else keyed: suffix",
        ),
        pytest.param(
            replace(O, name_first="C0"), ("create", "created", None, "Acme (C1)"),
            id="another new customer wants the name first: suffix",
        ),
        pytest.param(
            replace(O, name_first="C0", by_name=there()), ("create", "created", None, "Acme (C1)"),
            id="the first of the name adopts, this one gets the suffix",
        ),
        pytest.param(
            replace(O, by_name=there(active=False)), ("update", "adopted", 5, "Acme"),
            id="the holder of the name is gone (not asked for by the ledger)",
        ),
        # the external id
        pytest.param(
            replace(O, by_external=there(fields=OURS, external_folded="c1")), ("settled", "adopted", 5, ""),
            id="the external id is there: the link was lost",
        ),
        pytest.param(
            replace(O, by_external=there(fields={**OURS, "name": "Old"}, external_folded="c1")),
            ("update", "adopted", 5, "Acme"), id="the external id is there, a field differs",
        ),
        pytest.param(
            replace(O, by_external=there(external_folded="c1", linked_to="C7")),
            ("settled", "set_aside", None, "external_id_held_by C7"), id="the external id is another key's of ours",
        ),
        # twins
        pytest.param(
            replace(O, twin="c1"), ("settled", "set_aside", None, "case_twin of c1"), id="a newcomer with a case twin"
        ),
        pytest.param(
            replace(O, twin="c1", link_id=5, current=there(fields=OURS)), ("settled", "unchanged", 5, ""),
            id="a linked key keeps its place beside its twin",
        ),
        # linked organizations
        pytest.param(
            replace(O, link_id=5, current=there(fields=OURS)), ("settled", "unchanged", 5, ""), id="linked, unchanged"
        ),
        pytest.param(
            replace(O, link_id=5, current=there(fields={**OURS, "organization_fields.qad_city": "York"})),
            ("update", "updated", 5, None), id="linked, a field differs",
        ),
        pytest.param(
            replace(O, link_id=5, current=None), ("create", "recreated", None, "Acme"), id="linked, not there"
        ),
        pytest.param(
            replace(O, link_id=5, current=there(active=False)), ("create", "recreated", None, "Acme"),
            id="linked, and deleted: recreated",
        ),
        pytest.param(
            replace(O, link_id=5, current=there(active=False), by_name=there(6, linked_to="C2")),
            ("create", "recreated", None, "Acme (C1)"), id="recreated while another has the name: suffix",
        ),
        pytest.param(
            replace(O, link_id=5, current=there(fields={**OURS, "name": "Old"}), by_name=there(6)),
            ("update", "updated", 5, "Acme (C1)"), id="renamed to a name that another one has: suffix",
        ),
        pytest.param(
            replace(O, link_id=5, current=there(fields={**OURS, "name": "Old"}), name_first="C0"),
            ("update", "updated", 5, "Acme (C1)"), id="renamed to a name that another key wants first: suffix",
        ),
        pytest.param(
            replace(O, link_id=5, current=there(fields=OURS), by_name=there(fields=OURS), name_first="C0"),
            ("settled", "unchanged", 5, ""), id="the holder of the plain name keeps it, whoever comes",
        ),
        # new users
        pytest.param(U, ("create", "created", None, "Ada"), id="a new contact"),
        pytest.param(
            replace(U, email_folded="", email_first="7", body={**U.body, "email": None}),
            ("create", "created", None, "Ada"), id="a contact without email",
        ),
        pytest.param(
            replace(U, by_email=there(fields={"name": "A."}, role="end-user", email_folded="ada@x.example")),
            ("update", "adopted", 5, "Ada"), id="the email is an end user's without external id: adopted",
        ),
        pytest.param(
            replace(U, by_email=there(role="end-user", external_folded="crm-7")),
            ("settled", "set_aside", None, "email_held_by external id of 5"), id="the email is of one keyed by others",
        ),
        pytest.param(
            replace(U, by_email=there(role="end-user", linked_to="3")),
            ("settled", "set_aside", None, "email_held_by 3"), id="the email is of another contact's user",
        ),
        pytest.param(
            replace(U, email_first="3"), ("settled", "shared_with", None, "3"), id="a shared mailbox, not the first"
        ),
        pytest.param(
            replace(U, email_first="3", by_email=FOUND_USER), ("settled", "shared_with", None, "3"),
            id="a shared mailbox whose first contact adopts",
        ),
        *(
            pytest.param(
                replace(U, email_first=first, by_email=there(role=role)),
                ("settled", "set_aside", None, f"email_of_{role} 5"), id=f"the email is an {role}'s, {words}",
            )
            for role in ("agent", "admin")
            for first, words in (("7", "alone"), ("3", "shared"))
        ),
        pytest.param(
            replace(U, by_external=there(role="agent", external_folded="7")),
            ("settled", "set_aside", None, "external_id_of_agent 5"), id="the external id is an agent's",
        ),
        # linked users
        pytest.param(
            replace(U, link_id=5, current=FOUND_USER), ("settled", "unchanged", 5, ""), id="a linked user, unchanged"
        ),
        pytest.param(
            replace(U, link_id=5, current=replace(FOUND_USER, fields={**ADA, "name": "A."})),
            ("update", "updated", 5, "Ada"), id="a linked user, renamed",
        ),
        pytest.param(
            replace(U, link_id=5, current=replace(FOUND_USER, email_folded="old@x.example")),
            ("settled", "unchanged", 5, ""), id="another email is not an update: it is added apart",
        ),
        pytest.param(
            replace(U, link_id=5, current=None), ("settled", "set_aside", None, "user_deleted_in_zendesk"),
            id="a user that is not there any more",
        ),
        pytest.param(
            replace(U, link_id=5, current=replace(FOUND_USER, active=False)),
            ("settled", "set_aside", None, "user_deleted_in_zendesk"), id="a user deleted by hand",
        ),
        pytest.param(
            replace(U, link_id=5, current=replace(FOUND_USER, role="agent")),
            ("settled", "set_aside", None, "is_agent"), id="a user who became an agent",
        ),
        pytest.param(
            replace(U, link_id=5, current=replace(FOUND_USER, role="admin")),
            ("settled", "set_aside", None, "is_admin"), id="a user who became an admin",
        ),
        pytest.param(
            replace(U, link_id=5, current=FOUND_USER, email_first="3"), ("settled", "unchanged", 5, ""),
            id="a linked user keeps its own user when a mailbox comes to be shared",
        ),
    ],
)  # fmt: skip
def test_every_situation(candidate: Candidate, decision: tuple[Any, ...]) -> None:
    """Each situation of a record has its one decision, whoever asks."""
    assert told(candidate) == decision


def test_a_change_tells_before_and_after() -> None:
    """An update holds only what differs, with what was there; its base is what was there when it was decided."""
    current = there(fields={**OURS, "name": "Old", "organization_fields.qad_city": ""})
    found = decide(replace(O, link_id=5, current=current))
    assert found == Change(
        "update", "updated", 5, "digest-5",
        {"name": "Acme", "organization_fields.qad_city": "Leeds"},
        {"name": ("Old", "Acme"), "organization_fields.qad_city": ("", "Leeds")},
    )  # fmt: skip


def test_email_and_phone_are_written_at_creation_only() -> None:
    """A new user has email and phone in its body; an update never has."""
    assert {"email", "phone"} <= set(decide(U).body)  # type: ignore[union-attr]
    found = decide(replace(U, link_id=5, current=there(role="end-user")))
    assert set(found.body) == {"name", "external_id"}  # type: ignore[union-attr]


@pytest.mark.parametrize(("before", "after"), [(None, ""), ("", None), (None, None), ("", "")])
def test_nothing_and_empty_are_the_same(before: str | None, after: str | None) -> None:
    """An empty field and none at all do not differ."""
    candidate = replace(O, body={**O.body, "organization_fields.qad_city": after})
    current = there(fields={**OURS, "organization_fields.qad_city": before})
    assert told(replace(candidate, link_id=5, current=current))[1] == "unchanged"


def test_what_is_empty_is_not_written_at_creation() -> None:
    """A new record's body holds no empty field."""
    found = decide(replace(O, body={**O.body, "organization_fields.qad_city": None}))
    assert set(found.body) == {"name", "external_id"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("share", "floor", "linked", "most"),
    [
        pytest.param(0.3, 50, 1000, 300, id="the share"),
        pytest.param(0.3, 50, 100, 50, id="the floor where the share is less"),
        pytest.param(0.3, 50, 0, 50, id="nothing linked yet"),
        pytest.param(0.0, 0, 1000, 0, id="nothing may change"),
        pytest.param(1.0, 0, 1000, 1000, id="released"),
    ],
)
def test_the_brake(share: float, floor: int, linked: int, most: int) -> None:
    """At the threshold and under it a plan goes; one over it is refused with count, limit and way out."""
    brake = Brake(share, floor)
    brake.check("updates", most, linked)
    brake.check("updates", max(0, most - 1), linked)
    with pytest.raises(UnsafePlan, match=f"{most + 1} updates of {linked} .* allows {most}.*release_brake"):
        brake.check("updates", most + 1, linked)
