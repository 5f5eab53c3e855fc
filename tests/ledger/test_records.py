"""Stories, causes, replays and forgetting, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select, text

from airflow_provider_qadzd.ledger import Ledger, accounts, causes, changes, forgetting, stories, tickets
from airflow_provider_qadzd.ledger.changes import Ended
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.replays import Chosen, replay
from airflow_provider_qadzd.ledger.schema import metadata, ticket, ticket_history
from airflow_provider_qadzd.ledger.vault import Vault, rotate_keys
from airflow_provider_qadzd.records import Kind
from tests.conftest import SetClock
from tests.ledger.rows import a_change, a_flow, a_record, a_wanted, an_end, in_step, observe, plan_changes, settle, want
from tests.ledger.test_tickets import a_delivery, a_ticket

NAME, EMAIL, SUBJECT = "Zoë Unheard", "zoe@unheard.example", "Words of Zoë"


@pytest.fixture
def flow(ledger: Ledger) -> Flow:
    """A flow in a ledger that has a vault."""
    vault = Vault([Fernet.generate_key().decode()])
    ledger.vault = lambda: vault
    return a_flow(ledger)


def read(ledger: Ledger, flow: Flow) -> None:
    """One complete read: two customers, and the contact P1 of both of them."""
    for kind, rows, pairs in (
        ("customer", [(key, {"name": f"Name of {key}"}) for key in ("C1", "C2")], []),
        ("contact", [("P1", {"name": NAME, "email": EMAIL})], [("P1", "C1"), ("P1", "C2")]),
    ):
        read_id = accounts.begin_read(ledger, flow.source_id, kind, "full", "the run")
        accounts.save_page(ledger, flow.source_id, kind, read_id, rows, pairs)
        accounts.end_read(ledger, read_id, complete=True, reason="")


def stored(ledger: Ledger, flow: Flow) -> None:
    """The contact in every place where a person's words may stand."""
    read(ledger, flow)
    in_step(ledger, flow, 7, a_wanted("P1", "user", name=NAME, email=EMAIL), fields={"name": NAME})
    in_step(ledger, flow, 8, a_wanted("C1"))
    difference = {"name": [None, NAME], "email": [None, EMAIL]}
    plan_changes(ledger, flow, a_change("P1", "user", difference=difference))
    (change,) = changes.planned(ledger, flow, "user", (1,))
    settle(ledger, flow, an_end("user", "P1", 7, "updated", change_id=change.change_id, difference=difference))
    settle(ledger, flow, an_end("identity", "P1", 71, "updated", other=EMAIL))
    settle(ledger, flow, an_end("membership", "P1", 72, "membership_added", other="C1"))
    tickets.store_delivery(ledger, a_delivery("s1", body=f'{{"who": "{NAME}"}}'.encode(), ticket_id=5))
    with ledger.writing() as tx:
        tickets.write_tickets(tx, flow.account_id, [its_ticket(flow)])
        tickets.store_history(tx, flow.account_id, [its_history()])


def its_ticket(flow: Flow, **more: object) -> dict[str, object]:
    """A ticket of that user, with words."""
    return a_ticket(
        5, requester_id=7, organization_id=None, subject=SUBJECT, custom_fields=[{"id": 1, "value": NAME}], **more
    )


def its_history(event_id: int = 1) -> dict[str, object]:
    """An event of that ticket, with words."""
    return {
        "event_id": event_id, "ticket_id": 5, "occurred_at": "2026-01-01T00:00:00Z", "updater_id": 7,
        "children": [{"subject": SUBJECT, "from": EMAIL}],
    }  # fmt: skip


def everything(ledger: Ledger) -> str:
    """All rows of all tables as text."""
    with ledger.reading() as tx:
        rows = [row for table in metadata.tables.values() for row in tx.execute(select(table))]
    return "\n".join(f"{bytes(v).decode(errors='replace') if isinstance(v, bytes) else v}" for r in rows for v in r)


def found(ledger: Ledger) -> list[str]:
    """Which of the person's words are anywhere in the ledger."""
    kept = everything(ledger).lower()
    return [word for word in (NAME, EMAIL, SUBJECT) if word.lower() in kept]


def test_a_story_is_one_query_over_every_memory(ledger: Ledger, flow: Flow, clock: SetClock) -> None:
    """Seen, planned, answered with what changed, memberships and addresses: all steps, in time's order."""
    stored(ledger, flow)
    clock.sleep(60)
    read(ledger, flow)
    (story,) = stories.stories(ledger, "P1")
    assert (story.of, story.where) == ("contact", "default")
    assert [(step.what, step.kind, step.told) for step in story.steps] == [
        ("seen", "contact", "first"), ("planned", "user", "create"), ("audited", "user", "created"),
        ("audited", "user", "updated"), ("audited", "identity", "updated"),
        ("audited", "membership", "membership_added"), ("seen", "contact", "last"),
    ]  # fmt: skip
    assert story.steps[3].detail["changed"]["email"] == [None, EMAIL]
    assert story.steps[4].other == EMAIL
    assert (story.now["zendesk_id"], story.now["there"], story.now["listed"]) == (7, True, True)
    assert story.now["customers"] == ["C1", "C2"]
    (ticket_story,) = stories.stories(ledger, "5")
    assert [step.what for step in ticket_story.steps] == ["history", "delivered"]


def test_a_record_that_is_no_longer_read_says_so(ledger: Ledger, flow: Flow) -> None:
    """The last complete read did not list it."""
    read(ledger, flow)
    later = accounts.begin_read(ledger, flow.source_id, "customer", "full", "later")
    accounts.save_page(ledger, flow.source_id, "customer", later, [("C2", {"name": "Name of C2"})])
    accounts.end_read(ledger, later, complete=True, reason="")
    (gone,), (there,) = stories.stories(ledger, "C1"), stories.stories(ledger, "C2")
    assert (gone.now["listed"], there.now["listed"]) == (False, True)


def test_what_is_out_is_told_page_by_page(ledger: Ledger, flow: Flow) -> None:
    """Never decided, set aside, failed though linked, refused memberships; not what is in order."""
    in_step(ledger, flow, 1, a_wanted("fine"))
    in_step(ledger, flow, 2, a_wanted("was fine"))
    want(ledger, flow, a_wanted("new"), a_wanted("aside"), a_wanted("nameless", aside="no_name"))
    settle(
        ledger, flow, Ended("organization", "aside", "set_aside", "name_held_by X"),
        Ended("organization", "was fine", "set_aside", "refused_by_zendesk"),
    )  # fmt: skip
    for _ in range(2):
        plan_changes(ledger, flow, a_change("P1", "membership", other_key="C1"))
        (item,) = changes.planned(ledger, flow, "membership", (1,))
        refusal = Ended("membership", "P1", "set_aside", "refused again", other="C1", change_id=item.change_id)
        settle(ledger, flow, refusal)
    assert list(causes.troubled(ledger)) == [
        ("default", "organization", "set_aside", "name_held_by X", "aside"),
        ("default", "organization", "set_aside", "no_name", "nameless"),
        ("default", "organization", "", "", "new"),
        ("default", "organization", "set_aside", "refused_by_zendesk", "was fine"),
        ("default", "membership", "set_aside", "refused again", "P1/C1"),
    ]
    assert causes.near_keys(ledger, "asidf", None, []) == ["aside"]
    assert causes.near_keys(ledger, "qqqq", None, ["name of new"]) == ["new"]


@pytest.mark.parametrize(
    ("chosen", "released"),
    [
        (Chosen(key="C1"), True), (Chosen(reason="refused"), True), (Chosen(run="run"), True),
        (Chosen(since="2020"), True), (Chosen(until="2020"), False), (Chosen(key="C2"), False),
        (Chosen(run="other"), False), (Chosen(reason="refused", run="other"), False), (Chosen(reason="re_used"), False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["organization", "membership"])
def test_a_replay_releases_what_it_chooses(
    ledger: Ledger, flow: Flow, kind: Kind, chosen: Chosen, released: bool
) -> None:
    """A refusal that was chosen holds nothing back any more; another one does."""
    other = "C9" if kind == "membership" else ""
    want(ledger, flow, a_wanted("C1"))
    plan_changes(ledger, flow, a_change("C1", kind, other_key=other, operation="add"))
    (item,) = changes.planned(ledger, flow, kind, (1,))
    settle(ledger, flow, Ended(kind, "C1", "set_aside", "refused_by", other=other, change_id=item.change_id))
    assert len(changes.set_aside_since(ledger, flow, kind, "2020", reason="refused")) == 1
    assert replay(ledger, flow, chosen, "by hand").records == released * (
        2 if chosen.key and kind == "membership" else 1
    )
    assert len(changes.set_aside_since(ledger, flow, kind, "2020", reason="refused")) == (not released)


def test_forgetting_empties_every_table(ledger: Ledger, flow: Flow) -> None:
    """No row of any table has the person's words, also after all of it was sent again; the others are untouched."""
    stored(ledger, flow)
    assert found(ledger) == [NAME, EMAIL, SUBJECT]
    (subject,) = forgetting.subjects(ledger, "P1")
    assert (subject.names, subject.emails) == ((NAME,), (EMAIL,))
    done = forgetting.forget(ledger, subject, "by hand")
    assert found(ledger) == []
    assert ledger.compact()
    read(ledger, flow)
    want(ledger, flow, a_wanted("P1", "user", name=NAME, email=EMAIL), a_wanted("C1"))
    observe(ledger, a_record(7, flow.account_id, "user", fields={"name": NAME}))
    observe(ledger, a_record(70, flow.account_id, "user", email_folded=EMAIL, fields={"name": NAME}))
    observe(ledger, a_record(700, flow.account_id, "user", external_folded="p1", fields={"name": NAME}))
    settle(ledger, flow, an_end("user", "P1", 7, "adopted", difference={"name": [None, NAME]}))
    assert plan_changes(ledger, flow, a_change("P1", "user", difference={"name": [None, NAME]})) == 0
    with ledger.writing() as tx:
        rows = tickets.without_forgotten(
            tx,
            flow.account_id,
            [its_ticket(flow), a_ticket(6, requester_id=9, organization_id=8, subject="Else", external_id="")],
        )
        tickets.write_tickets(tx, flow.account_id, rows)
        tickets.store_history(tx, flow.account_id, [its_history(2)])
        assert tx.execute(select(ticket.c.ticket_id)).scalars().all() == [5, 6]
        assert tx.execute(select(ticket_history.c.children)).scalars().all() == [[], []]
    assert found(ledger) == []
    assert "P1" not in everything(ledger).split()
    assert done.pseudonym in everything(ledger)
    assert [story.of for story in stories.stories(ledger, "C1")] == ["customer"]
    assert forgetting.forgotten_since(ledger, "P1")
    assert forgetting.forgotten_since(ledger, "p1")  # Zendesk sees no difference in capitals
    assert forgetting.forgotten_since(ledger, "P2") == []


def test_what_comes_before_its_requester_is_known_is_emptied_then(ledger: Ledger, flow: Flow) -> None:
    """History of a ticket that the ledger did not have yet loses its words as soon as it is a forgotten one's."""
    stored(ledger, flow)
    (subject,) = forgetting.subjects(ledger, "P1")
    forgetting.forget(ledger, subject, "by hand")
    with ledger.writing() as tx:
        tickets.store_history(tx, flow.account_id, [{**its_history(3), "ticket_id": 50, "updater_id": 1}])
        tickets.without_forgotten(
            tx, flow.account_id, [a_ticket(50, requester_id=7, organization_id=None, subject=SUBJECT)]
        )
    assert found(ledger) == []


def test_tombstones_outlive_the_vaults_keys(ledger: Ledger, flow: Flow) -> None:
    """A rotated vault key seals the tombstones' key anew and does not change it."""
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    ledger.vault = lambda: Vault([old])
    stored(ledger, flow)
    (subject,) = forgetting.subjects(ledger, "P1")
    forgetting.forget(ledger, subject, "by hand")
    both = Vault([new, old])
    assert rotate_keys(ledger, both, both).resealed == 1
    ledger.vault = lambda: Vault([new])
    assert forgetting.forgotten_since(ledger, "P1")
    read(ledger, flow)
    assert found(ledger) == []


def test_forgetting_twice_does_no_harm(ledger: Ledger, flow: Flow) -> None:
    """A subject found before somebody else forgot it is forgotten again, and nothing more goes."""
    stored(ledger, flow)
    (subject,) = forgetting.subjects(ledger, "P1")
    first = forgetting.forget(ledger, subject, "by hand")
    with ledger.reading() as tx:
        marks = tx.execute(text("SELECT count(*) FROM qadzd_tombstone")).scalar_one()
    again = forgetting.forget(ledger, subject, "by hand")
    assert again.pseudonym == first.pseudonym
    with ledger.reading() as tx:
        assert tx.execute(text("SELECT count(*) FROM qadzd_tombstone")).scalar_one() == marks == 4
