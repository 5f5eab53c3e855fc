"""DAG runs of the demo's Airflow: made, watched until they are over, and explained when they fail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .processes import Failed
from .standalone import Airflow

IN_WORDS = {None: "to come", "up_for_retry": "waits to try again", "deferred": "waits in the triggerer"}
Task = dict[str, Any]


class Runs:
    """The runs of one Airflow. A task that is to be tried again is told of once, with its reason."""

    def __init__(self, airflow: Airflow) -> None:
        self._airflow, self._call = airflow, airflow.call
        self._told: set[tuple[str, str, int]] = set()

    def unpause(self, dag_id: str) -> None:
        """Let the DAG run by its schedule."""
        self._call("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, run_id: str, **dates: str) -> str:
        """Make a run. Without dates it has none; a run of that id that is there already is taken as this one."""
        body = {"dag_run_id": run_id, "logical_date": None, **dates}
        self._call("POST", f"/dags/{dag_id}/dagRuns", body, also=409)
        return run_id

    def newest(self, dag_id: str, count: int = 10) -> list[dict[str, Any]]:
        """The newest runs of a DAG, newest first."""
        query = {"order_by": "-run_after", "limit": count}
        return list(self._call("GET", f"/dags/{dag_id}/dagRuns", query=query)["dag_runs"])

    def finish(self, dag_id: str, run_id: str, seconds: float = 240) -> dict[str, Any]:
        """Wait until the run has succeeded with all its tasks. Failed, with the failing task's log, if it has not."""
        return self._airflow.progress.until(dag_id, lambda: self._look(dag_id, run_id), seconds)

    def standing(self, dag_id: str) -> str:
        """Where the DAG's active runs stand."""
        active = [row["dag_run_id"] for row in self.newest(dag_id) if row["state"] == "running"]
        return "; ".join(f"{run_id}: {self._at(dag_id, run_id)}" for run_id in active) or "none runs yet"

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What the task returned."""
        path = f"{_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/return_value"
        value = self._call("GET", path, query={"stringify": False})["value"]
        return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value

    def _look(self, dag_id: str, run_id: str) -> tuple[dict[str, Any] | None, str]:
        run = self._call("GET", _path(dag_id, run_id))
        if run["state"] == "queued":
            return None, f"queued; {self.standing(dag_id)}"
        tasks = self._tasks(dag_id, run_id)
        states = [row["state"] for row in tasks]
        if run["state"] == "failed":
            logs = [self._log_tail(dag_id, run_id, row) for row in tasks if row["state"] == "failed"]
            raise Failed("\n".join([f"The run {run_id} of {dag_id} failed.", *logs]))
        if run["state"] != "success":
            return None, self._at(dag_id, run_id, tasks)
        # A run before the DAG's start date is called a success without having done anything.
        if "success" not in states or set(states) - {"success", "skipped"}:
            raise Failed(f"The run {run_id} of {dag_id} is over, but its tasks are {states}.")
        return run, ""

    def _at(self, dag_id: str, run_id: str, tasks: Sequence[Task] | None = None) -> str:
        """Where the run's tasks stand. Each reason to try again is told once, when it is first seen."""
        tasks = self._tasks(dag_id, run_id) if tasks is None else tasks
        for row in tasks:
            key = (run_id, row["task_id"], row["try_number"])
            if row["state"] == "up_for_retry" and key not in self._told:
                self._told.add(key)
                why = next((line for line in reversed(self._log(dag_id, run_id, row)) if ": " in line), "see its log")
                self._airflow.progress.say(f"  {dag_id}, {row['task_id']} waits to try again. {why}")
        told = [f"{row['task_id']} {IN_WORDS.get(row['state'], row['state'])}" for row in tasks]
        return ", ".join(sorted(told))

    def _tasks(self, dag_id: str, run_id: str) -> list[Task]:
        return list(self._call("GET", f"{_path(dag_id, run_id)}/taskInstances")["task_instances"])

    def _log_tail(self, dag_id: str, run_id: str, task: Task, lines: int = 25) -> str:
        kept = self._log(dag_id, run_id, task)[-lines:]
        return "\n".join([f"The end of the log of task {task['task_id']}:", *(f"  | {line}" for line in kept)])

    def _log(self, dag_id: str, run_id: str, task: Task) -> list[str]:
        """The lines of the task's last try, without those that only group others."""
        path = f"{_path(dag_id, run_id)}/taskInstances/{task['task_id']}/logs/{max(int(task['try_number']), 1)}"
        log = self._call("GET", path, query={"full_content": True}, also=404) or {}
        lines = [line for entry in log.get("content") or [] for line in _lines_of(entry)]
        return [line for line in lines if not line.startswith("::")]


def _path(dag_id: str, run_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{run_id}"


def _lines_of(entry: Any) -> list[str]:
    """One entry of a task's log: what it says, and the errors behind it."""
    if not isinstance(entry, dict):
        return str(entry).splitlines()
    causes = [f"{one.get('exc_type')}: {one.get('exc_value')}" for one in entry.get("error_detail") or []]
    return "\n".join([str(entry.get("event", "")), *causes]).splitlines()
