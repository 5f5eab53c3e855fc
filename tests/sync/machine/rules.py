"""The state machine: edits on either side, faults, kills and overtakings in any order, and a clean run in between."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.sandbox import Sandbox, Size
from airflow_provider_qadzd.sandbox.qad_store import QadStore
from airflow_provider_qadzd.sandbox.zendesk import organizations
from airflow_provider_qadzd.sandbox.zendesk.store import Store
from airflow_provider_qadzd.sync.apply import Applier, Done
from airflow_provider_qadzd.sync.draft import Plan
from tests.sync.machine.hands import MAILS, NAMES, Hands, made_in
from tests.sync.machine.invariants import Found
from tests.sync.machine.seams import Killed, MortalLedger, MortalWorld, Seams
from tests.sync.world import RULES, SandboxClock, World, world_of

SIZE = (8, 10, 6)
ROUNDS = 8
"""Runs until one writes nothing, at most."""
ATTEMPTS = 5
"""Runs and parts of runs between two clean runs in one example, at least."""

OWNERS = st.sampled_from(["a", "b"])
PICK = st.integers(0, 30)
POINT = st.integers(1, 60)
NAME, MAIL = st.sampled_from(NAMES), st.sampled_from(MAILS)
CITY = st.sampled_from(["Leeds", "Lund", ""])
STATUSES: list[dict[str, Any]] = [
    *({"status": 429, "retry_after": text} for text in ("2", "1.5", "-1", "soon", "99999999")),
    {"status": 429, "retry_after_date": 20}, {"status": 429, "content_type": "text/plain", "body": "slow down"},
    {"status": 429, "body": {"error": "TooManyJobs"}}, {"status": 409}, {"status": 500}, {"status": 503},
    {"status": 502, "after_effect": True}, {"status": 500, "after_effect": True}, {"status": 504}, {"action": "drop"},
    {"action": "drop", "after_effect": True}, {"action": "reset-after"}, {"action": "html"},
    {"action": "html", "after_effect": True}, {"action": "html", "status": 502},
]  # fmt: skip
CALLS = [
    "* /api/v2/*", "POST /api/v2/*", "PUT /api/v2/*", "GET /api/v2/*", "POST */create_many", "PUT */update_many",
    "POST /api/v2/users", "POST /api/v2/organizations", "POST /api/v2/organization_memberships*", "PUT /api/v2/*/*",
    "POST */identities", "GET */show_many", "GET /api/v2/job_statuses*", "GET /api/v2/incremental/*", "GET *search*",
    "* /clouderp/*",
]  # fmt: skip
JOBS: list[dict[str, Any]] = [
    *({"failed_items": form} for form in ("usual", "documented", "index", "id")),
    *({"fails_after": rows} for rows in (0, 1, 2)), {"results": "null"}, {"message": "null"},
    {"vanishes": "everywhere"}, {"vanishes": "alone"}, {"ends": "failed"}, {"ends": "killed"}, {"delay": 2000},
    {"ends": "completed", "fails_after": 1}, {"ends": "killed", "results": "null", "fails_after": 2},
]  # fmt: skip
ORGANIZATION_EDITS = [
    "name", "name", "tags", "notes", "domains", "region", "city", "city", "unkey", "unkey", "key", "delete", "delete",
]  # fmt: skip
USER_EDITS = [
    "name", "name", "tags", "notes", "function", "function", "phone", "channel", "agent", "end-user", "suspend",
    "unkey", "unkey", "key", "delete",
]  # fmt: skip
RACY = ("agent", "end-user", "key", "unkey")
"""Zendesk has no condition on a write: what changes just between our look and our write is overwritten."""


class Run:
    """One run of the flow as a process has it: its plan and its applier."""

    plan: Plan | None = None
    applier: Applier | None = None


class AccountsMachine(RuleBasedStateMachine):
    """Both systems, a ledger, and two runs. `stage` is where all examples begin; see `Stage`."""

    stage: Stage

    def __init__(self) -> None:
        super().__init__()
        self.world = self.stage.world(synced=False)
        self.begin()

    def begin(self) -> None:
        self.seams, self.state = self.world.seams, self.world.sandbox.state
        self.hands, self.faulty = Hands(self.world.sandbox, self.stage.by_hand), False
        self.runs = {"a": Run(), "b": Run()}
        self.cleaned = self.attempts = self.rules = 0
        self.broken = False

    # -- the stage -----------------------------------------------------------------------------------------------------

    @initialize(
        synced=st.booleans(), delay=st.sampled_from([1, 5, 30]), bulk=st.booleans(), lag=st.sampled_from([0, 0, 120])
    )  # fmt: skip
    def start(self, synced: bool, delay: float, bulk: bool, lag: float) -> None:
        """Before the first run, or after it."""
        if synced:
            self.stage.strike(self.world)
            self.world = self.stage.world(synced=True)
            self.begin()
        self.world.settings(job_delay=delay, bulk_import=bulk, search_lag=lag)

    def check_invariants(self, *args: Any, **how: Any) -> None:
        """Asked by Hypothesis after each rule."""
        super().check_invariants(*args, **how)
        self.rules += 1

    def teardown(self) -> None:
        try:
            if not self.broken:
                self.clean_run()
            self.stage.examples += 1
            self.stage.steps += self.rules
        finally:
            self.stage.strike(self.world)

    # -- QAD -----------------------------------------------------------------------------------------------------------

    def code(self, pick: int) -> str:
        codes = sorted(self.state.qad.customers)
        return codes[pick % len(codes)]

    def contact_id(self, pick: int) -> int:
        ids = sorted(self.state.qad.contacts)
        return ids[pick % len(ids)]

    @rule(pick=PICK, name=NAME)
    def qad_renames_a_customer(self, pick: int, name: str) -> None:
        self.hands.customer(self.code(pick), name=name)

    @rule(pick=PICK, city=CITY, active=st.booleans())
    def qad_changes_a_customer(self, pick: int, city: str, active: bool) -> None:
        self.hands.customer(self.code(pick), city=city, active=active)

    @rule(city=CITY, function=st.sampled_from(["Buyer", "", "Quality"]))
    def qad_changes_everybody(self, city: str, function: str) -> None:
        for code in list(self.state.qad.customers):
            self.hands.customer(code, city=city)
        for contact_id in list(self.state.qad.contacts):
            self.hands.contact(contact_id, function=function)

    @rule(pick=PICK, name=NAME, twin=st.booleans())
    def qad_makes_a_customer(self, pick: int, name: str, twin: bool) -> None:
        code = self.code(pick)
        new = (
            (code.lower() if code != code.lower() else code.upper())
            if twin
            else f"C0000{len(self.state.qad.customers) + 400}"
        )
        self.hands.customer(new, name=name)

    @rule(pick=PICK, email=MAIL, primary=st.booleans())
    def qad_changes_an_email(self, pick: int, email: str, primary: bool) -> None:
        self.hands.contact(self.contact_id(pick), email=email, primary=primary)

    @rule(pick=PICK, name=NAME, function=st.sampled_from(["Buyer", "Quality"]))
    def qad_changes_a_contact(self, pick: int, name: str, function: str) -> None:
        self.hands.contact(self.contact_id(pick), name=name, function=function)

    @rule(pick=PICK, homes=st.lists(PICK, min_size=1, max_size=3))
    def qad_moves_a_contact(self, pick: int, homes: list[int]) -> None:
        codes = list(dict.fromkeys(self.code(home) for home in homes))
        self.hands.contact(self.contact_id(pick), customers=codes)

    @rule(
        homes=st.lists(PICK, min_size=1, max_size=2),
        email=MAIL,
        primary=st.booleans(),
        count=st.sampled_from([1, 1, 5]),
    )
    def qad_makes_contacts(self, homes: list[int], email: str, primary: bool, count: int) -> None:
        codes = list(dict.fromkeys(self.code(home) for home in homes))
        for number in range(count):
            address = email if number == 0 else f"new{number}@pool.example"
            new = max(self.state.qad.contacts, default=50000) + 1
            self.hands.contact(new, name=f"New {new}", email=address, customers=codes, primary=primary)

    @rule(pick=PICK)
    def qad_stops_telling_of_a_contact(self, pick: int) -> None:
        if len(self.state.qad.contacts) > 3:
            with self.state.lock:
                self.state.qad.remove_contact(self.contact_id(pick))

    # -- Zendesk, by hand ----------------------------------------------------------------------------------------------

    def organizations(self) -> list[Any]:
        return list(self.state.zendesk.organizations)

    def users(self, *, staff: bool = False) -> list[Any]:
        admin = self.state.zendesk.admin_id
        return [
            row
            for row in self.state.zendesk.users
            if row.active and row.id != admin and (staff or row.role == "end-user")
        ]

    def may(self, edit: str, kind: str, zendesk_id: int) -> bool:
        """Nothing that races with a job of ours that is under way, and no key taken from what only we know of."""
        if edit not in RACY:
            return True
        linked = self.stage.sql(
            "SELECT count(*) FROM qadzd_link WHERE kind = ? AND zendesk_id = ?", kind, zendesk_id
        )[0][0]  # fmt: skip
        ours = self.hands.organizations if kind == "organization" else self.hands.users
        known = linked or zendesk_id in ours
        return not self.seams._inside and not self.state.jobs._open and bool(known)

    @rule(pick=PICK, edit=st.sampled_from(ORGANIZATION_EDITS), value=NAME)
    def an_organization_is_edited(self, pick: int, edit: str, value: str) -> None:
        rows = self.organizations()
        if rows and self.may(edit, "organization", rows[pick % len(rows)].id):
            self.hands.organization(rows[pick % len(rows)], edit, value)

    @rule(pick=PICK, edit=st.sampled_from(USER_EDITS), value=NAME)
    def a_user_is_edited(self, pick: int, edit: str, value: str) -> None:
        rows = self.users(staff=edit == "end-user")
        if rows and self.may(edit, "user", rows[pick % len(rows)].id):
            self.hands.user(rows[pick % len(rows)], edit, value)

    @rule(name=NAME, external_id=st.sampled_from([None, None, "other", "C0000401"]))
    def an_organization_is_made(self, name: str, external_id: str | None) -> None:
        self.hands.edit(lambda state: organizations.create(state, {"name": name, "external_id": external_id}))

    @rule(email=MAIL, external_id=st.sampled_from([None, None, "other", "50011"]))
    def a_user_is_made(self, email: str, external_id: str | None) -> None:
        self.hands.new_user(email, external_id)

    @rule(pick=PICK, email=MAIL)
    def a_user_gets_a_second_email(self, pick: int, email: str) -> None:
        rows = self.users(staff=True)
        self.hands.second_email(rows[pick % len(rows)], email)

    @rule(pick=PICK, home=PICK)
    def a_user_joins_an_organization(self, pick: int, home: int) -> None:
        users, organizations = self.users(), self.organizations()
        if users and organizations:
            self.hands.join(users[pick % len(users)], organizations[home % len(organizations)])

    @rule(pick=PICK, other=PICK, of_users=st.booleans())
    def two_are_merged(self, pick: int, other: int, of_users: bool) -> None:
        rows = self.users() if of_users else self.organizations()
        if len(rows) > 1 and pick % len(rows) != other % len(rows):
            loser, winner = rows[pick % len(rows)], rows[other % len(rows)]
            (self.hands.merge_users if of_users else self.hands.merge_organizations)(loser, winner)

    # -- fate ----------------------------------------------------------------------------------------------------------

    @rule(call=st.sampled_from(CALLS), how=st.sampled_from(STATUSES), skip=st.integers(0, 4), times=st.integers(1, 5))
    def calls_fail(self, call: str, how: dict[str, Any], skip: int, times: int) -> None:
        self.faulty = True
        self.world.fault(call, **how, skip=skip, times=times)

    @rule(
        job=st.sampled_from(JOBS), call=st.sampled_from(["* */*_many", "POST */create_many"]), times=st.integers(1, 3)
    )
    def jobs_go_wrong(self, job: dict[str, Any], call: str, times: int) -> None:
        self.world.fault(call, action="job", job=job, times=times)

    @rule(on=st.booleans(), jobs=st.sampled_from([1, 30]))
    def limits(self, on: bool, jobs: int) -> None:
        self.world.sandbox.post_control("limits", {"enabled": on, "jobs_in_flight": jobs, "requests_per_minute": 100})

    @rule()
    def tokens_expire(self) -> None:
        self.world.sandbox.post_control("tokens", {"expire": "access", "qad": True})

    @rule(on=st.booleans())
    def bulk_import_is_switched(self, on: bool) -> None:
        self.world.settings(bulk_import=on)

    @rule(seconds=st.sampled_from([1, 61, 130, 301, 901, 90_000]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.sleep(seconds)

    # -- runs ----------------------------------------------------------------------------------------------------------

    def attempt(self, what: Callable[[], Any], point: int = 0, meanwhile: Callable[[], None] | None = None) -> bool:
        """Do it as a task would: it may be put off, and it may be killed. Whether it came to its end."""
        self.attempts += 1
        try:
            with self.seams.at(point, meanwhile):
                what()
            self.state.settle()
            self.hands.check()
        except TryLater as error:
            if not self.seams._inside:
                self.world.clock.sleep(min(error.wait, 30))
            return False
        except FixFirst:
            if not self.faulty:
                raise
            return False
        except Killed:
            self.stage.met["runs killed"] += 1
            return False
        return True

    def whole_run(self, owner: str) -> None:
        self.world.collect()
        self.world.mirror()
        run = self.runs[owner]
        run.plan = self.world.plan()
        run.applier = self.applier(owner)
        self.to_the_end(owner)

    def applier(self, owner: str) -> Applier:
        plan = self.runs[owner].plan
        assert plan is not None
        return self.world.applier(plan, owner)

    def to_the_end(self, owner: str) -> None:
        applier = self.runs[owner].applier
        assert applier is not None
        for _ in range(300):
            state = applier.step()
            if isinstance(state, Done):
                return
            self.world.clock.sleep(max(0.0, state.until - self.world.clock.time()))
        raise AssertionError("apply does not come to an end")

    @rule(owner=OWNERS)
    def run(self, owner: str) -> None:
        self.world.clock.sleep(130)
        self.attempt(lambda: self.whole_run(owner))

    @rule(owner=OWNERS, point=POINT)
    def run_and_be_killed(self, owner: str, point: int) -> None:
        self.world.clock.sleep(130)
        if not self.attempt(lambda: self.whole_run(owner), point):
            self.runs[owner] = Run()

    @rule(owner=OWNERS)
    def collect(self, owner: str) -> None:
        del owner
        self.attempt(self.world.collect)

    @rule()
    def mirror(self) -> None:
        self.attempt(self.world.mirror)

    @rule(owner=OWNERS)
    def plan(self, owner: str) -> None:
        def plan() -> None:
            self.runs[owner].plan = self.world.plan()
            self.runs[owner].applier = self.applier(owner)

        self.attempt(plan)

    @rule(owner=OWNERS, point=st.one_of(st.just(0), POINT))
    def step(self, owner: str, point: int) -> None:
        """One step of an applier; at some point in it, it may be killed, and a new process goes on later."""
        run = self.runs[owner]
        if run.plan is None:
            self.attempt(lambda: self.whole_run(owner), point)
            return
        applier = run.applier = run.applier or self.applier(owner)
        if not self.attempt(applier.step, point):
            run.applier = None

    @rule(owner=OWNERS, point=POINT, seconds=st.sampled_from([0, 0, 301]), data=st.data())
    def overtaken(self, owner: str, point: int, seconds: float, data: st.DataObject) -> None:
        """In the middle of a run, time passes, another run goes all its way, or somebody edits."""
        other = "b" if owner == "a" else "a"

        def meanwhile() -> None:
            self.world.clock.sleep(seconds)
            what = data.draw(
                st.sampled_from(["run", "run", "collect and plan", "organization", "user", "merge", "qad"])
            )
            if what == "run":
                with self.world.another_process():
                    self.attempt(lambda: self.whole_run(other))
            elif what == "collect and plan":
                with self.world.another_process():
                    self.attempt(lambda: (self.world.collect(), self.world.plan()))
            elif what == "organization":
                self.an_organization_is_edited(
                    data.draw(PICK), data.draw(st.sampled_from(ORGANIZATION_EDITS)), data.draw(NAME)
                )
            elif what == "user":
                self.a_user_is_edited(data.draw(PICK), data.draw(st.sampled_from(USER_EDITS)), data.draw(NAME))
            elif what == "merge":
                self.two_are_merged(data.draw(PICK), data.draw(PICK), data.draw(st.booleans()))
            else:
                self.qad_changes_an_email(data.draw(PICK), data.draw(MAIL), data.draw(st.booleans()))

        self.world.clock.sleep(130)
        if not self.attempt(lambda: self.whole_run(owner), point, meanwhile):
            self.runs[owner] = Run()

    # -- the proof -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.attempts >= ATTEMPTS)
    @rule()
    def clean_run(self) -> None:
        """Without faults, a few runs and a day later all that must hold holds, and one more run writes nothing."""
        self.broken = True
        self.stage.met.update(
            f"left {state}{' with a job' if job else ''}" for state, job in self.stage.sql(
                "SELECT change_state, job_id <> '' FROM qadzd_change_item WHERE change_state <> 'done' GROUP BY 1, 2"
            )
        )  # fmt: skip
        self.world.sandbox.delete_control("faults")
        self.world.sandbox.post_control("limits", {"enabled": False})
        self.world.settings(job_delay=2)
        self.until_quiet()
        # Once a day, deleted organizations are looked for, and what Zendesk refused is tried again.
        self.world.clock.sleep(90_000)
        self.until_quiet()
        found = Found(self.state, self.stage.ledger, self.hands, RULES.customer_page)
        found.check()
        self.stage.met.update(
            {f"{row['kind']} {row['last_outcome']} {row['last_detail'].split(' ')[0]}" for row in found.wanted.values()}
        )
        self.faulty, self.broken, self.attempts = False, False, 0
        self.runs = {"a": Run(), "b": Run()}

    def until_quiet(self) -> None:
        for _ in range(ROUNDS):
            if self.one_run() == 0:
                return
        raise AssertionError(f"still writing after {ROUNDS} clean runs: {self.world.calls()}")

    def one_run(self) -> int:
        """A whole run that nothing disturbs; how much it wrote."""
        self.cleaned += 1
        self.state.stats.calls.clear()
        self.state.stats.zendesk_writes = 0
        self.world.clock.sleep(130)
        patiently(self.world, self.world.collect)
        patiently(self.world, self.world.mirror)
        plan = self.world.plan()
        for kind in ("organization", "user"):
            wanted = self.stage.sql("SELECT count(*) FROM qadzd_wanted WHERE kind = ?", kind)[0][0]
            assert sum(plan.counts[kind].values()) == wanted, f"{wanted} {kind}s, and {plan.counts}"
        self.world.apply_through(plan, f"clean {self.cleaned}")
        return self.state.stats.zendesk_writes


def patiently(world: World, what: Callable[[], Any]) -> None:
    """Again after each TryLater."""
    for _ in range(20):
        try:
            what()
            return
        except TryLater as error:
            world.clock.sleep(error.wait)
    raise AssertionError("put off for ever")


class Stage:
    """Where all examples begin: both systems of one size before the first run and after it, as often as needed.

    Time stands still unless somebody lets it pass, so that an example goes the same way each time.
    """

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox, self.folder = sandbox, folder
        self.examples = self.steps = self.worlds = 0
        self.met: Counter[str] = Counter()
        """What clean runs found: changes left open by state, outcomes and reasons, killed runs."""
        self.beginnings = {synced: self._beginning(synced) for synced in (False, True)}
        self.ledger: sqlite3.Connection

    def _beginning(self, synced: bool) -> tuple[Path, Store, QadStore, float]:
        path = self.folder / f"{synced}.db"
        Ledger(f"sqlite:///{path}").opened().engine.dispose()
        with world_of(self.sandbox, path, SIZE) as world:
            state = self.sandbox.state
            state.clock.freeze()
            self.by_hand = made_in(state)
            if synced:
                world.sync()
            return path, deepcopy(state.zendesk), deepcopy(state.qad), round(state.now) + 1.0

    def sql(self, asked: str, *values: Any) -> list[Any]:
        return self.ledger.execute(asked, values).fetchall()

    def world(self, *, synced: bool) -> MortalWorld:
        """A new world from one of the two beginnings."""
        begun, zendesk, qad, now = self.beginnings[synced]
        self.worlds += 1
        path = Path(shutil.copy(begun, self.folder / f"{self.worlds}.db"))
        state = self.sandbox.state
        with state.lock:
            state.size = Size(0, 0, 0)
            state.reset()
            state.limits.rates.enabled = False
            state.zendesk, state.qad = deepcopy(zendesk), deepcopy(qad)
            state.clock.freeze()
            state.clock.set(now)
        clock = SandboxClock(self.sandbox)
        MortalWorld.seams = Seams()
        # It also keeps the file open, so that SQLite need not fold its log in whenever a connection is closed.
        self.ledger = sqlite3.connect(path, check_same_thread=False)
        return MortalWorld(self.sandbox, MortalLedger(f"sqlite:///{path}", clock, MortalWorld.seams), clock)

    def strike(self, world: World) -> None:
        """Take a world down."""
        world.close()
        self.ledger.close()
        for file in self.folder.glob(f"{self.worlds}.db*"):
            file.unlink()
