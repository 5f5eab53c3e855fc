"""Starts the demo's processes, waits for them in sight, and ends all that they started.

Each service runs in a session of its own: whatever it forks carries that session's id, so that nothing is overlooked
when it is ended, not even after a demo that was killed itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")
Ask = Callable[[], tuple[Found | None, str]]
"""Answers with what was waited for, or None, and with where things stand."""


class Failed(Exception):
    """Something did not go as it should. The text is for whoever runs the demo."""


class Progress:
    """Says what happens and what is being waited for, with the seconds since the start."""

    def __init__(self, every: float = 5.0) -> None:
        self._start = time.monotonic()
        self._every = every
        self._watched: list[Service] = []

    def watch(self, service: Service) -> None:
        """Stop waiting for anything once this service has ended by itself."""
        self._watched.append(service)

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._start:6.1f} s  {text}", flush=True)

    def until(self, what: str, ask: Ask[Found], seconds: float, pause: float = 0.5) -> Found:
        """Ask until there is an answer; Failed after `seconds`, or when a watched service has ended."""
        begun = told = time.monotonic()
        while True:
            found, detail = ask()
            if found is not None:
                return found
            for service in self._watched:
                service.must_run()
            now = time.monotonic()
            if now - begun > seconds:
                raise Failed(f"Waited {seconds:.0f} seconds for {what}. Last seen: {detail or 'nothing'}.")
            if now - told >= self._every:
                told = now
                self.say(f"  waiting for {what}, {now - begun:.0f} s so far" + (f": {detail}" if detail else ""))
            time.sleep(pause)


class Service:
    """One long-running process with its log file. `stop_by` is the signal that it ends cleanly on."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path, stop_by: int
    ) -> None:
        self.name, self.log = name, log
        self._command, self._environment, self._stop_by = command, environment, stop_by
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it in a session of its own, and remember that session beside the log."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env=dict(self._environment),
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._record.write_text(str(self._process.pid))

    def must_run(self) -> None:
        """Failed, with the end of its log, if it has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise Failed(f"{self.name} ended with code {self._process.returncode}.\n{self.log_tail()}")

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return ""
        kept = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"The end of {self.log}:", *(f"  | {line}" for line in kept)])

    def stop(self, patience: float = 10.0) -> None:
        """Ask it to end, then insist, until nothing of its session is left."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(self._stop_by)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
        end_session(process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        left = members(process.pid)
        if left:
            raise Failed(f"{self.name} left processes behind: {', '.join(map(str, left))}.")
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.log.with_suffix(".session")


def members(session: int) -> list[int]:
    """The processes of a session that still run."""
    return [pid for pid in _process_ids() if _session_of(pid) == session and not _is_zombie(pid)]


def end_session(session: int) -> None:
    """End every process of a session: politely, and after five seconds for good."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in members(session):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + 5
        while members(session) and time.monotonic() < deadline:
            time.sleep(0.1)


def end_forgotten(folder: Path) -> int:
    """End what a demo of this folder that was killed has left running. How many processes that were."""
    ended = 0
    for record in folder.glob("*.session"):
        text = record.read_text().strip()
        # The number may be somebody else's by now; our services run in this folder.
        ours = [pid for pid in members(int(text)) if _runs_in(pid, folder)] if text.isdigit() else []
        if ours:
            end_session(int(text))
            ended += len(ours)
        record.unlink(missing_ok=True)
    return ended


def _process_ids() -> list[int]:
    if sys.platform == "linux":
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    shown = subprocess.run(["ps", "-A", "-o", "pid="], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in shown.split() if line.isdigit()]


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def _runs_in(pid: int, folder: Path) -> bool:
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")) == folder
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, outside the range from which outgoing connections take theirs."""
    ports: list[int] = []
    for port in random.sample(range(20000, 32000), 2000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise Failed("There are no free ports between 20000 and 32000.")


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Only one demo works in a folder. The lock is on the open file, so it goes with its holder, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Failed(
                f"Another demo (process {lock.read().strip() or 'unknown'}) runs in {folder}. "
                "Stop it with Ctrl-C where it was started, then try again."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
