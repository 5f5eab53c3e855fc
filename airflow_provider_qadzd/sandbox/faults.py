"""Rules that spoil chosen calls: a status, a lost answer, a delay, a page of HTML.

A rule says which calls it matches and how often it fires. With `after_effect` the call takes effect first and
its answer is lost, which is the fault that tells a careful client from a careless one. The action `job` leaves the call
alone and spoils the bulk job that it starts; `soap` lets QXtend say that something is wrong. `manual` explains every
word of it.
"""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field, fields
from email.utils import formatdate
from fnmatch import fnmatchcase
from typing import Any

from .web import JSON, Call, Reply, encode, refuse
from .zendesk.oddities import unknown_words

SPOILED = ("client-fault", "server-fault", "error", "oe-error", "process-001", "process-009", "warning", "mtom")
"""What the action `soap` makes of an answer of QXtend."""

ACTIONS = ("status", "drop", "delay", "reset-after", "html", "job", "soap")


@dataclass(slots=True)
class Fault:
    """One rule. `times` None means for ever; `every` n means each nth match; `skip` lets the first matches pass."""

    match: str
    action: str = "status"
    status: int | None = None
    retry_after: str | None = None
    retry_after_date: float | None = None
    content_type: str | None = None
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    times: int | None = 1
    every: int = 1
    skip: int = 0
    contains: str | None = None
    seconds: float = 0.0
    after_bytes: int | None = None
    after_effect: bool = False
    job: dict[str, Any] = field(default_factory=dict)
    soap: str = ""
    seen: int = 0
    fired: int = 0

    @property
    def lets_through(self) -> bool:
        """Whether the call takes effect."""
        return self.after_effect or self.action in ("delay", "reset-after", "job", "soap")

    @property
    def spoils(self) -> bool:
        """Whether the caller sees something else than the answer."""
        return self.action not in ("delay", "job", "soap")

    def applies(self, call: Call) -> bool:
        if self.times is not None and self.fired >= self.times:
            return False
        if not (fnmatchcase(f"{call.method} {call.path}", self.match) or fnmatchcase(call.pattern, self.match)):
            return False
        if self.contains is not None and self.contains not in f"{call.query} {call.raw.decode(errors='replace')}":
            return False
        self.seen += 1
        return self.seen > self.skip and (self.seen - self.skip) % self.every == 0

    def reply(self, now: float) -> Reply:
        html = self.action == "html"
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = self.retry_after
        elif self.retry_after_date is not None:
            headers["Retry-After"] = formatdate(now + self.retry_after_date, usegmt=True)
        body = self.body
        if body is None:
            body = "<!DOCTYPE html><html><body><h1>Just a moment...</h1></body></html>" if html else {"error": "Fault"}
        raw = body.encode() if isinstance(body, str) else encode(body)
        kind = self.content_type or ("text/html; charset=utf-8" if html else JSON)
        return Reply(self.status or (200 if html else 500), raw, kind, headers)


class Faults:
    """The rules in force. The first one that applies to a call is used."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, rule: dict[str, Any]) -> Fault:
        known = {item.name for item in fields(Fault)} - {"seen", "fired"}
        unknown = sorted(set(rule) - known) + unknown_words(rule.get("job") or {})
        if rule.get("soap", SPOILED[0]) not in SPOILED:
            unknown.append(f"soap={rule['soap']}")
        if unknown or not rule.get("match") or rule.get("action", "status") not in ACTIONS:
            raise refuse(400, {"error": "BadFault", "unknown": unknown, "known": sorted(known), "actions": ACTIONS})
        if "action" not in rule and "status" not in rule and rule.get("after_effect"):
            rule = {**rule, "action": "drop"}
        if rule.get("retry_after") is not None:
            rule = {**rule, "retry_after": str(rule["retry_after"])}
        fault = Fault(**rule)
        with self._lock:
            self._rules.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def listed(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(rule) for rule in self._rules]

    def claim(self, call: Call) -> Fault | None:
        if not self._rules or call.path.startswith("/_sandbox"):
            return None
        with self._lock:
            for rule in self._rules:
                if rule.applies(call):
                    rule.fired += 1
                    return rule
        return None
