"""What somebody found who looked before anything was done: checks in order, each ending in a Finding.

The doctor of a flow and the preflight of a QAD connection are made of these. Nothing here looks at anything itself. A
check whose ground has failed is skipped and says so: one cause is one failure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from airflow_provider_qadzd.errors import FixFirst, QadzdError, TryLater

Verdict = Literal["ok", "warn", "fail", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: the check's name, its verdict, a sentence, and what to do next (empty if nothing)."""

    check: str
    verdict: Verdict
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a preflight found, and what it proposes.

    `settings` are the connection's, with the proposals in them, ready to be pasted; `proposed` names those that differ.
    `away` is the first time that the system did not answer: then what failed may be nobody's to repair.
    """

    findings: Sequence[Finding]
    settings: Mapping[str, object]
    proposed: Sequence[str] = ()
    away: TryLater | None = None

    @property
    def good(self) -> bool:
        """Whether nothing has to be repaired."""
        return not failed(self.findings)

    def told(self) -> str:
        """What failed, with its advice; else what is there. For a line."""
        shown = [one for one in self.findings if one.verdict == "fail"] or self.findings
        return " ".join(f"{one.what} {one.advice}".strip() for one in shown if one.verdict != "skipped")

    def refuse(self, where: str, how: str) -> None:
        """FixFirst naming everything that failed; TryLater where the system was away. `how` is where to look on."""
        if self.good:
            return
        if self.away is not None:
            raise self.away
        raise FixFirst(f"{where} will not do. {self.told()}", advice=how)


_BECAUSE = "skipped because of: "


@dataclass(frozen=True, slots=True)
class Check:
    """One check. It is skipped if one that it `needs` has failed or came to no end, or was itself skipped for that."""

    name: str
    look: Callable[[], Finding]
    needs: tuple[str, ...] = ()


def examine(checks: Iterable[Check]) -> list[Finding]:
    """One finding for each check, in order. No check ends the others, whatever happens in it."""
    findings, broken = [], set[str]()
    for check in checks:
        ground = next((name for name in check.needs if name in broken), None)
        if ground is None:
            finding, ended = _looked(check)
        else:
            finding, ended = Finding(check.name, "skipped", f"{_BECAUSE}{ground}"), False
        if not ended or finding.verdict == "fail":
            broken.add(check.name)
        findings.append(finding)
    return findings


def _looked(check: Check) -> tuple[Finding, bool]:
    """What the check found, and whether it came to its end."""
    try:
        return check.look(), True
    except QadzdError as error:
        return found_in(check.name, error), False
    except Exception as error:  # one that falls over helps nobody; the text may hold anything, the type does not
        return Finding(check.name, "fail", f"This check broke: {type(error).__name__}.", "Report it as a bug."), False


def found_in(check: str, error: QadzdError) -> Finding:
    """An error as a finding. A limit that is used up for the moment says nothing about the installation."""
    held_up = isinstance(error, TryLater) and (error.facts.status == 429 or error.facts.code == "BudgetUsedUp")
    told = " ".join(part for part in (error.what, f"[{error.facts}]" if str(error.facts) else "") if part)
    advice = error.advice or ("Look again in a minute." if isinstance(error, TryLater) else "")
    return Finding(check, "warn" if held_up else "fail", told, advice)


def summary(findings: Sequence[Finding]) -> str:
    """`12 checks: 10 ok, 1 warnings, 1 failures`, and how many were skipped if any."""
    count = {verdict: sum(one.verdict == verdict for one in findings) for verdict in ("ok", "warn", "fail", "skipped")}
    line = f"{len(findings)} checks: {count['ok']} ok, {count['warn']} warnings, {count['fail']} failures"
    return line + (f", {count['skipped']} skipped" if count["skipped"] else "")


def failed(findings: Iterable[Finding]) -> bool:
    """Whether anything must be repaired, or could not be looked at."""
    return any(one.verdict == "fail" or one.what.startswith(_BECAUSE) for one in findings)


def as_table(findings: Sequence[Finding]) -> str:
    """For people: verdict, check and sentence in columns, the advice under it, and the counts last."""
    width = max((len(one.check) for one in findings), default=0)
    lines = []
    for one in findings:
        lines.append(f"{one.verdict:<8}{one.check:<{width}}  {one.what}".rstrip())
        if one.advice:
            lines.append(f"{'':<{8 + width}}  -> {one.advice}")
    return "\n".join([*lines, summary(findings)])


def as_json(by_flow: Mapping[str, Sequence[Finding]]) -> str:
    """For machines: the findings of each flow, and whether any of them is a failure."""
    flows = [{"flow": name, "findings": [asdict(one) for one in found]} for name, found in by_flow.items()]
    return json.dumps({"failed": any(map(failed, by_flow.values())), "flows": flows}, indent=2)


def as_screen(conn_id: str, report: Report, *, as_json: bool = False) -> str:
    """A preflight for people: the findings, and the extra to paste with what in it is new. Or all of it as JSON."""
    if as_json:
        told = {"findings": [asdict(one) for one in report.findings], "failed": not report.good}
        return json.dumps({**told, "extra": report.settings, "proposed": list(report.proposed)}, indent=2)
    lines = [f"Preflight of {conn_id}", as_table(report.findings)]
    if report.proposed:
        lines += ["", f"The extra of {conn_id} to paste; look at {', '.join(report.proposed)} first:"]
        lines += [json.dumps(dict(report.settings), indent=2, ensure_ascii=False)]
    elif report.good:
        lines += ["", f"The extra of {conn_id} can stay as it is."]
    return "\n".join(lines)
