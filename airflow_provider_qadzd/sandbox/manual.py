"""The words of the control interface, as `--help` shows them: faults, settings and limits, each in a line."""

from __future__ import annotations

from textwrap import fill

ACTIONS = {
    "status": "answer with `status` (500 unless given) in place of the call, which has no effect",
    "drop": "close the connection without an answer; the call has no effect unless `after_effect`",
    "delay": "wait `seconds` of real time, then answer as usual",
    "reset-after": "let the call take effect, send `after_bytes` of its answer, then reset the connection",
    "html": "answer with a page of HTML, with 200 unless `status` is given",
    "soap": "let QXtend answer as `soap` says",
    "job": "answer as usual, and let the bulk job that the call starts go wrong as `job` says",
}

FAULTS = {
    "match": "which calls: a pattern with * for METHOD /path, or for METHOD and the route as the stats name it",
    "action": "one of the actions below; status unless given, drop if only after_effect is given",
    "status": "the status of the answer",
    "retry_after": "the Retry-After header, any text: 2, 1.5, -1, 99999999, soon, an HTTP date; absent unless given",
    "retry_after_date": "the same as an HTTP date so many seconds after the sandbox's now",
    "content_type": "the type of the answer, as text/plain or text/html",
    "body": "the answer: a text as it is, anything else as JSON",
    "headers": "an object of further headers",
    "times": "how often it fires: 1 unless given, null for ever",
    "every": "fire at each nth match only",
    "skip": "let the first matches pass",
    "contains": "only calls whose query or body has this text in it",
    "seconds": "how long a delay takes",
    "after_bytes": "how much of the answer is sent before a reset; half of it unless given",
    "after_effect": "true: the call takes effect first, then its answer is lost or replaced",
    "soap": "for the action soap: client-fault, server-fault, error, oe-error, process-001, process-009 (QAD's "
    "transient errors), warning (with rows) or mtom",
    "job": "for the action job: delay, failed_items, fails_after, results, message, vanishes, ends as in the settings",
}

SETTINGS = {
    "job_delay": "seconds until a bulk job takes effect",
    "job_failed_items": "form of failed rows: usual (by kind), documented ({id, action, success, error, details}), "
    "index ({index, error, details}) or id (id 1, which names nothing)",
    "job_fails_after": "a job does so many rows and fails; null for none",
    "job_results": "rows, or null: jobs end without results",
    "job_message": "usual, or null: jobs end without a message",
    "job_vanishes": "null, alone (GET of one job is 404) or everywhere; the rows took effect all the same",
    "job_ends": "null, or the status in which every job ends: completed, failed or killed",
    "bulk_import": "false: bulk creation of users is 403",
    "language": "en, es or zh: the texts of errors; their codes stay",
    "detail_codes": "false: the details of a refused record carry no codes",
    "token_ttl": "seconds that an access token lives",
    "token_expiry": "told, null or absent: what the token endpoint says of it; the token ends all the same",
    "refresh_token_ttl": "seconds that a refresh token lives",
    "redirect_uris": "the only redirect addresses that consent may go to; null allows any",
    "qad_token_ttl": "seconds that a QAD token lives",
    "qad_basic": "false: HTTP Basic is refused",
    "qad_answers": "null, or what every call gets: html or login_page with 200, redirect to the login or "
    "redirect_elsewhere, submit_failed or no_data with 200, forbidden, busy (429), away (503) or broken (500)",
    "qad_browses": "an object: this site's ids of the browses that are usually called otherwise",
    "qad_hidden_browses": "a list of browses that the user may not see: they look as if there were none",
    "qad_spelling": "how columns are spelt: usual, upper, bare (without a table) or prefixed (t_...)",
    "qad_without": "a list of columns that rows and field lists do not have",
    "qad_paging": "how later pages are asked for: action (pageAction next), number (pageAction first), or repeats: not "
    "at all, page 1 comes again",
    "qad_has_more": "how QAD says that there is more: text, boolean, elsewhere or absent",
    "qad_filters": "false: filters are ignored",
    "qad_missing": "a list of endpoints (ends of paths) that answer 404",
    "qxtend_prefix": "numbered, default or other: how QXtend's answers name their namespaces",
    "qxtend_result": "success or warning: what every answer of QXtend with rows says",
    "qxtend_mtom": "true: QXtend answers in several parts",
    "qxtend_row_limit": "so many rows at most in one answer of QXtend, with a warning; null for no limit",
    "deny_authorization": "true: consent is refused",
    "search_lag": "seconds until a changed record is found by a search",
    "export_host": "the host in the links of exports; empty for the sandbox's own",
    "api_token": "an API token of the administrator's that is accepted besides OAuth; null for none",
    "circuit_breaker": "false: a webhook whose endpoint fails is called all the same",
}

LIMITS = {
    "enabled": "false: no limit at all",
    "requests_per_minute": "calls of the account",
    "incremental_per_minute": "pages of incremental exports",
    "samples_per_20_minutes": "samples of incremental exports",
    "search_exports_per_minute": "pages of search exports",
    "user_updates_per_second": "writes to users, of the account",
    "user_updates_per_user_per_minute": "writes to one user",
    "organization_updates_per_minute": "writes to one organization",
    "ticket_updates_per_minute": "writes to tickets, of the account",
    "updates_per_ticket_per_10_minutes": "writes to one ticket",
    "jobs_in_flight": "jobs queued or running",
}

EXAMPLES = """\
  The next bulk creation is refused in plain text, and asks for patience until a date:
    curl URL/_sandbox/faults -d '{"match": "POST *_many", "status": 429, "retry_after_date": 30,
      "content_type": "text/plain", "body": "slow down"}'
  Each second creation of a user takes effect, but its answer gets lost, for ever:
    curl URL/_sandbox/faults -d '{"match": "POST /api/v2/users", "after_effect": true, "every": 2, "times": null}'
  The third job breaks off after ten rows and says nothing of them:
    curl URL/_sandbox/faults -d '{"match": "POST *_many", "action": "job", "skip": 2,
      "job": {"fails_after": 10, "results": "null"}}'
  No faults any more; Spanish errors; an hour passes; what was called and refused:
    curl -X DELETE URL/_sandbox/faults
    curl URL/_sandbox/settings -d '{"language": "es"}'
    curl URL/_sandbox/clock -d '{"advance": 3600}'
    curl URL/_sandbox/stats"""


def _listed(words: dict[str, str]) -> str:
    wide = max(map(len, words)) + 2
    return "\n".join(
        fill(f"{name:<{wide}}{text}", 110, initial_indent="  ", subsequent_indent=" " * (wide + 2))
        for name, text in words.items()
    )


MANUAL = f"""\
The control interface lies at /_sandbox, needs no login and takes JSON objects: stats, reset-stats, state, reset,
clock (advance, now, frozen), limits, settings, tokens, faults, tickets, customers, contacts, webhooks/deliver.

A fault, POSTed to /_sandbox/faults alone or as {{"rules": [...]}}; the first that fits a call is used:
{_listed(FAULTS)}

The actions of a fault:
{_listed(ACTIONS)}

The settings, at /_sandbox/settings:
{_listed(SETTINGS)}

The limits, at /_sandbox/limits:
{_listed(LIMITS)}

Examples (URL is what the command prints first):
{EXAMPLES}
"""
