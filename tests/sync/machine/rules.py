"""The state machine: edits on either side, faults, kills and overtakings in any order, and a clean run in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.sync.apply import Applier
from airflow_provider_qadzd.sync.draft import Plan
from tests.sync.machine.edits import Edits
from tests.sync.machine.fate import (
    CALLS,
    JOBS,
    MAIL,
    MEANWHILE,
    NAME,
    ORGANIZATION_EDITS,
    OWNERS,
    PICK,
    POINT,
    STATUSES,
    USER_EDITS,
)
from tests.sync.machine.hands import Hands
from tests.sync.machine.invariants import Found
from tests.sync.machine.seams import Killed
from tests.sync.world import RULES, World

ROUNDS = 8
"""Runs until one writes nothing, at most."""
ATTEMPTS = 5
"""Runs and parts of runs between two clean runs in one example, at least."""


class Run:
    """One run of the flow as a process has it: its plan and its applier."""

    plan: Plan | None = None
    applier: Applier | None = None


class AccountsMachine(Edits):
    """Both systems, a ledger, and two runs. `stage` is where all examples begin; see `Stage`."""

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
                self.prove()
            self.stage.examples += 1
            self.stage.steps += self.rules
        finally:
            self.stage.strike(self.world)

    # -- fate ----------------------------------------------------------------------------------------------------------

    @rule(call=st.sampled_from(CALLS), how=st.sampled_from(STATUSES), skip=st.integers(0, 4), times=st.integers(1, 5))
    def calls_fail(self, call: str, how: dict[str, Any], skip: int, times: int) -> None:
        self.faulty = True
        self.world.fault(call, **how, skip=skip, times=times)

    @rule(effect=st.booleans(), skip=st.integers(0, 6), how=st.sampled_from(["drop", "status", "html"]))
    def a_write_is_lost(self, effect: bool, skip: int, how: str) -> None:
        """Its answer, with or without its effect."""
        self.faulty = True
        for call in ("POST /api/v2/*", "PUT /api/v2/*"):
            self.world.fault(call, action=how, after_effect=effect, skip=skip)

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
        self.prepare(owner)
        self.to_the_end(owner)

    def prepare(self, owner: str) -> None:
        self.world.collect()
        self.world.mirror()
        run = self.runs[owner]
        run.plan = self.world.plan()
        run.applier = self.applier(owner)

    def disturbed(self, owner: str, point: int, applying: bool, meanwhile: Callable[[], None] | None = None) -> None:
        """A whole run to which something happens: at that point of all of it, or of applying alone."""
        self.world.clock.sleep(130)
        if not applying:
            ended = self.attempt(lambda: self.whole_run(owner), point, meanwhile)
        else:
            ended = self.attempt(lambda: self.prepare(owner))
            ended = ended and self.attempt(lambda: self.to_the_end(owner), point, meanwhile)
        if not ended:
            self.runs[owner] = Run()

    def applier(self, owner: str) -> Applier:
        plan = self.runs[owner].plan
        assert plan is not None
        return self.world.applier(plan, owner)

    def to_the_end(self, owner: str) -> None:
        applier = self.runs[owner].applier
        assert applier is not None
        self.world.to_the_end(applier)

    @rule(owner=OWNERS)
    def run(self, owner: str) -> None:
        self.world.clock.sleep(130)
        self.attempt(lambda: self.whole_run(owner))

    @rule(owner=OWNERS, point=POINT, applying=st.booleans())
    def run_and_be_killed(self, owner: str, point: int, applying: bool) -> None:
        self.disturbed(owner, point, applying)

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

    @rule(
        owner=OWNERS, point=POINT, applying=st.booleans(), seconds=st.sampled_from([0, 0, 301]), data=st.data()
    )  # fmt: skip
    def overtaken(self, owner: str, point: int, applying: bool, seconds: float, data: st.DataObject) -> None:
        """In the middle of a run, time passes, another run goes all its way, or somebody edits."""
        other = "b" if owner == "a" else "a"

        def meanwhile() -> None:
            self.world.clock.sleep(seconds)
            what = data.draw(st.sampled_from(MEANWHILE))
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

        self.disturbed(owner, point, applying, meanwhile)

    # -- the proof -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.attempts >= ATTEMPTS)
    @rule()
    def clean_run(self) -> None:
        self.prove()

    def prove(self) -> None:
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
        told = [(row["kind"], row["last_outcome"], row["last_detail"].split(" ")[0]) for row in found.wanted.values()]
        self.stage.met.update({" ".join(one).strip() for one in told if not one[2].isdigit()})
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
