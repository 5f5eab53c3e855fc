"""What can be asked of Zendesk, grouped by resource.

Bodies take dotted or nested fields; answers come back as Zendesk sent them. The `*_many` take 100 at most, and
`update_many` wants each `id`. There is no `create_or_update` for users: it overwrites agents. Lists are read by cursor
wherever Zendesk has one; the one search by offset ends at Zendesk's own bound of 10,000.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from airflow_provider_qadzd.errors import Facts, FixFirst
from airflow_provider_qadzd.records import Flat
from airflow_provider_qadzd.zendesk import exported, wire
from airflow_provider_qadzd.zendesk.wire import ExportPage, JobStatus, Row

Rows = list[Row]
Params = Mapping[str, Any]


class Calls(Protocol):
    """How a call is made: `ZendeskClient`."""

    def send(
        self, method: str, path: str, params: Params | None = None, body: Params | None = None,
        read: wire.Reader = wire.read_any,
    ) -> Row:  # fmt: skip
        """The JSON object that Zendesk answers, as `read` makes it."""

    def pages(self, path: str, rows: str, params: Params | None = None) -> Iterator[Row]:
        """Every row of a list, by cursor."""


class _Group:
    """What the groups have in common: an envelope named after the resource around bodies and answers."""

    def __init__(self, api: Calls) -> None:
        self._send, self._pages = api.send, api.pages

    def _get(self, path: str, name: str, params: Params | None = None, method: str = "GET") -> Any:
        return _inside(self._send(method, path, params), name, path)

    def _write(self, method: str, path: str, name: str, body: Params) -> Row:
        return dict(_inside(self._send(method, path, body={name: body}), name, path))

    def _job(self, method: str, path: str, name: str, bodies: Iterable[Params]) -> JobStatus:
        started = self._send(method, path, body={name: wire.at_most_100(bodies)})
        return wire.job_results(_inside(started, "job_status", path))


def _inside(body: Row, name: str, path: str) -> Any:
    if name in body:
        return body[name]
    facts = Facts(system="zendesk", path="/api/v2" + path)
    raise FixFirst(f"Zendesk answered without {name!r}.", advice=wire.ADDRESS, facts=facts)


class Organizations(_Group):
    """https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/"""

    def show(self, organization_id: int) -> Row:
        return dict(self._get(f"/organizations/{organization_id}", "organization"))

    def show_many(self, *, ids: Iterable[int] | None = None, external_ids: Iterable[str] | None = None) -> Rows:
        """Those that exist, of up to 100, in no particular order. External ids match whatever their case."""
        return list(
            self._get("/organizations/show_many", "organizations", wire.show_many(ids=ids, external_ids=external_ids))
        )

    def search(self, *, name: str | None = None, external_id: str | None = None) -> Rows:
        """Exact matches, whatever their case; new ones may be missing for some minutes."""
        return list(
            self._get("/organizations/search", "organizations", wire.one_of(name=name, external_id=external_id))
        )

    def merges(self, winner_id: int) -> Rows:
        """The merges that this organization won: `loser_id`, `status`. None of an organization that is gone."""
        return list(self._get(f"/organizations/{winner_id}/merges", "organization_merges"))

    def create(self, organization: Flat) -> Row:
        """The new organization. SetAside `duplicate` if its name or external id is taken."""
        return self._write("POST", "/organizations", "organization", wire.nest(organization))

    def create_many(self, organizations: Iterable[Flat]) -> JobStatus:
        """A job for up to 100. Its results carry no external id: look with `show_many` afterwards."""
        return self._job("POST", "/organizations/create_many", "organizations", map(wire.nest, organizations))

    def update(self, organization_id: int, organization: Flat) -> Row:
        """The organization after the change; lists (tags, domain names) are replaced. 5 a minute each."""
        return self._write("PUT", f"/organizations/{organization_id}", "organization", wire.nest(organization))

    def update_many(self, organizations: Iterable[Flat]) -> JobStatus:
        return self._job("PUT", "/organizations/update_many", "organizations", map(wire.nest, organizations))


class Users(_Group):
    """https://developer.zendesk.com/api-reference/ticketing/users/users/"""

    def me(self) -> Row:
        """Whom the credentials stand for. FixFirst if for nobody: Zendesk answers bad ones with an anonymous user."""
        user = dict(self._get("/users/me", "user"))
        if user.get("id") is None:
            facts = Facts(system="zendesk", method="GET", path="/api/v2/users/me", status=200, code="Anonymous")
            raise FixFirst("Zendesk takes us for an anonymous visitor.", advice=wire.LOGIN, facts=facts)
        return user

    def show(self, user_id: int) -> Row:
        """The user, also a deleted one (`active` false)."""
        return dict(self._get(f"/users/{user_id}", "user"))

    def show_deleted(self, user_id: int) -> Row:
        """A user who was deleted. NotFound for one who is erased for good, and for one who is not deleted."""
        return dict(self._get(f"/deleted_users/{user_id}", "deleted_user"))

    def show_many(self, *, ids: Iterable[int] | None = None, external_ids: Iterable[str] | None = None) -> Rows:
        """Those that exist, of up to 100, in no particular order. External ids match whatever their case."""
        return list(self._get("/users/show_many", "users", wire.show_many(ids=ids, external_ids=external_ids)))

    # https://developer.zendesk.com/api-reference/introduction/pagination/#using-offset-pagination
    def search(self, *, query: str | None = None, external_id: str | None = None, email: str | None = None) -> Rows:
        """Matches, by email not only exact ones, 10,000 at most; new users may be missing for some minutes."""
        asked, found = wire.one_of(query=query, external_id=external_id, email=email), Rows()
        if email is not None:
            asked = {"query": 'email:"{}"'.format(email.replace('"', ""))}
        for page in range(1, 101):
            body = self._send("GET", "/users/search", {**asked, "page": page, "per_page": wire.PAGE})
            found += _inside(body, "users", "/users/search")
            if not body.get("next_page"):
                return found
        facts = Facts(system="zendesk", method="GET", path="/api/v2/users/search")
        raise FixFirst("More than 10,000 users match this search.", facts=facts)

    def create(self, user: Flat, *, skip_verify_email: bool = True) -> Row:
        """The new user. SetAside `duplicate` if the email or external id is taken. No mail goes out by default."""
        return self._write("POST", "/users", "user", {**wire.nest(user), "skip_verify_email": skip_verify_email})

    def create_many(self, users: Iterable[Flat], *, skip_verify_email: bool = True) -> JobStatus:
        """A job for up to 100. FixFirst with code `BulkImportOff` where the account does not permit it."""
        bodies = ({**wire.nest(user), "skip_verify_email": skip_verify_email} for user in users)
        return self._job("POST", "/users/create_many", "users", bodies)

    def update(self, user_id: int, user: Flat) -> Row:
        """The user after the change. An `email` becomes a secondary one; `organization_id` ends other memberships."""
        return self._write("PUT", f"/users/{user_id}", "user", wire.nest(user))

    def update_many(self, users: Iterable[Flat]) -> JobStatus:
        return self._job("PUT", "/users/update_many", "users", map(wire.nest, users))


class Identities(_Group):
    """https://developer.zendesk.com/api-reference/ticketing/users/user_identities/"""

    def of_user(self, user_id: int) -> Rows:
        return list(self._pages(f"/users/{user_id}/identities", "identities"))

    def create(self, user_id: int, email: str, skip_verify_email: bool = True, *, primary: bool = False) -> Row:
        """The new email, a secondary one unless `primary`. SetAside `duplicate` if somebody has it."""
        body = {"type": "email", "value": email, "skip_verify_email": skip_verify_email}
        if primary:
            body["primary"] = True
        return self._write("POST", f"/users/{user_id}/identities", "identity", body)

    def make_primary(self, user_id: int, identity_id: int) -> Rows:
        """All identities of the user after the change."""
        return list(self._get(f"/users/{user_id}/identities/{identity_id}/make_primary", "identities", method="PUT"))


class Memberships(_Group):
    """https://developer.zendesk.com/api-reference/ticketing/organizations/organization_memberships/"""

    def of_user(self, user_id: int) -> Rows:
        """Every membership of the user, the default first."""
        return list(self._pages(f"/users/{user_id}/organization_memberships", "organization_memberships"))

    def of_organization(self, organization_id: int) -> Rows:
        return list(
            self._pages(f"/organizations/{organization_id}/organization_memberships", "organization_memberships")
        )

    def create(self, user_id: int, organization_id: int) -> Row:
        """The new membership. SetAside if the user is a member already."""
        pair = {"user_id": user_id, "organization_id": organization_id}
        return self._write("POST", "/organization_memberships", "organization_membership", pair)

    def create_many(self, pairs: Iterable[tuple[int, int]]) -> JobStatus:
        """A job for up to 100 pairs of user id and organization id."""
        bodies = ({"user_id": user, "organization_id": organization} for user, organization in pairs)
        return self._job("POST", "/organization_memberships/create_many", "organization_memberships", bodies)

    def make_default(self, user_id: int, membership_id: int) -> Rows:
        """All memberships of the user after the change; none is lost."""
        path = f"/users/{user_id}/organization_memberships/{membership_id}/make_default"
        return list(self._get(path, "organization_memberships", method="PUT"))

    def delete(self, membership_id: int) -> None:
        """End a membership, which unties the user's open tickets from the organization. NotFound if it has ended."""
        self._send("DELETE", f"/organization_memberships/{membership_id}")


class Jobs(_Group):
    """https://developer.zendesk.com/api-reference/ticketing/ticket-management/job_statuses/"""

    def show_many(self, ids: Iterable[str]) -> list[JobStatus]:
        """Those of up to 100 that Zendesk still knows: it forgets a job after a day."""
        return [
            wire.job_results(job)
            for job in self._get("/job_statuses/show_many", "job_statuses", wire.show_many(ids=ids))
        ]

    def list_open(self) -> list[JobStatus]:
        """The account's jobs, anybody's, that have not ended; 30 at most."""
        return [job for job in map(wire.job_results, self._pages("/job_statuses", "job_statuses")) if not job.done]


class Exports(_Group):
    """https://developer.zendesk.com/api-reference/ticketing/ticket-management/incremental_exports/"""

    def tickets(self, cursor: str | None = None, start_time: float | None = None) -> ExportPage:
        """Tickets by their latest change, deleted ones too (`status` is deleted); with a cursor once one is known.

        Each comes with when it was solved, and otherwise only with what `exported.Ticket` names.
        """
        asked = {**_from(cursor, start_time), "include": "metric_sets"}
        body = self._send("GET", "/incremental/tickets/cursor", asked, read=exported.read_page)
        solved = {one["ticket_id"]: one.get("solved_at") or "" for one in body.get("metric_sets") or ()}
        return replace(wire.cursor_page(body, "tickets", cursor or None), solved_at=solved)

    def users(self, cursor: str | None = None, start_time: float | None = None) -> ExportPage:
        """Users by their latest change, deleted ones too (`active` is false); with a cursor once one is known."""
        body = self._send("GET", "/incremental/users/cursor", _from(cursor, start_time))
        return wire.cursor_page(body, "users", cursor or None)

    def organizations(self, start_time: float) -> ExportPage:
        """Organizations changed at or after `start_time`; whether deletions show is not documented."""
        return self._by_time("organizations", start_time)

    def ticket_events(self, start_time: float) -> ExportPage:
        """What was done to tickets at or after `start_time` (Unix seconds, like all of these)."""
        return self._by_time("ticket_events", start_time, exported.read_page)

    def _by_time(self, rows: str, start_time: float, read: wire.Reader = wire.read_any) -> ExportPage:
        start, size = int(start_time), wire.EXPORT_PAGE
        body = self._send("GET", f"/incremental/{rows}", {"start_time": start}, read=read)
        if wire.is_just_full(body, rows, start):
            size -= 1
            body = self._send("GET", f"/incremental/{rows}", {"start_time": start, "per_page": size}, read=read)
        return wire.time_page(body, rows, start, size)


def _from(cursor: str | None, start_time: float | None) -> dict[str, Any]:
    return {"cursor": cursor} if cursor else {"start_time": int(wire.one_of(start_time=start_time)["start_time"])}


class Tickets(_Group):
    """https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/"""

    def show(self, ticket_id: int) -> Row:
        """The ticket; NotFound for a deleted one."""
        return dict(self._get(f"/tickets/{ticket_id}", "ticket"))

    def show_many(self, ids: Iterable[int]) -> Rows:
        """Those of up to 100 that exist and may be seen, in no particular order."""
        return list(self._get("/tickets/show_many", "tickets", wire.show_many(ids=ids)))

    def requested_by(self, user_id: int) -> Rows:
        """Every ticket that this user asked for, except archived ones: those are closed."""
        return list(self._pages(f"/users/{user_id}/tickets/requested", "tickets", {"exclude_archived": "true"}))

    def update(self, ticket_id: int, ticket: Flat) -> Row:
        """The ticket after the change, which may fire the account's triggers."""
        return self._write("PUT", f"/tickets/{ticket_id}", "ticket", wire.nest(ticket))

    def update_many(self, tickets: Iterable[Flat]) -> JobStatus:
        """A job for up to 100, which may fire the account's triggers for each."""
        return self._job("PUT", "/tickets/update_many", "tickets", map(wire.nest, tickets))


class Webhooks(_Group):
    """https://developer.zendesk.com/api-reference/webhooks/webhooks-api/webhooks/"""

    def find(self, name: str) -> Row | None:
        """The webhook of exactly that name, if there is one."""
        listed = self._pages("/webhooks", "webhooks", {"filter[name_contains]": name})
        return next((webhook for webhook in listed if webhook.get("name") == name), None)

    def create(self, webhook: Params) -> Row:
        """The new webhook. Its subscriptions cannot be changed afterwards."""
        return self._write("POST", "/webhooks", "webhook", webhook)

    def show(self, webhook_id: str) -> Row:
        return dict(self._get(f"/webhooks/{webhook_id}", "webhook"))

    def update(self, webhook_id: str, webhook: Params) -> None:
        """Change the named attributes only."""
        self._send("PATCH", f"/webhooks/{webhook_id}", body={"webhook": webhook})

    def delete(self, webhook_id: str) -> None:
        self._send("DELETE", f"/webhooks/{webhook_id}")

    def signing_secret(self, webhook_id: str) -> str:
        """The secret that signs this webhook's deliveries. Keep it in the vault, never in a log."""
        return str(self._get(f"/webhooks/{webhook_id}/signing_secret", "signing_secret")["secret"])

    def reset_signing_secret(self, webhook_id: str) -> str:
        """A new secret; the old one signs nothing any more."""
        return str(self._get(f"/webhooks/{webhook_id}/signing_secret", "signing_secret", method="POST")["secret"])

    def test(self, webhook_id: str) -> Row:
        """Have Zendesk deliver a sample; what our receiver answered: `status`, `headers`, `payload`."""
        answer = self._send("POST", "/webhooks/test", {"webhook_id": webhook_id}, {"request": {}})
        return dict(_inside(answer, "response", "/webhooks/test"))


class Triggers(_Group):
    """https://developer.zendesk.com/api-reference/ticketing/business-rules/triggers/"""

    def list(self) -> Rows:
        """Every ticket trigger of the account."""
        return [*self._pages("/triggers", "triggers")]

    def create(self, trigger: Params) -> Row:
        return self._write("POST", "/triggers", "trigger", trigger)

    def update(self, trigger_id: int, trigger: Params) -> Row:
        """The trigger after the change; conditions and actions are replaced as wholes."""
        return self._write("PUT", f"/triggers/{trigger_id}", "trigger", trigger)

    def delete(self, trigger_id: int) -> None:
        self._send("DELETE", f"/triggers/{trigger_id}")


class Fields(_Group):
    """https://developer.zendesk.com/api-reference/ticketing/organizations/organization_fields/ and .../user_fields/"""

    def organization_fields(self) -> Rows:
        """By `key`. Zendesk drops a key that it does not know in silence, so check here before writing one."""
        return list(self._pages("/organization_fields", "organization_fields"))

    def create_organization_field(self, field: Params) -> Row:
        return self._write("POST", "/organization_fields", "organization_field", field)

    def user_fields(self) -> Rows:
        """As for organizations."""
        return list(self._pages("/user_fields", "user_fields"))

    def create_user_field(self, field: Params) -> Row:
        return self._write("POST", "/user_fields", "user_field", field)


class Tokens(_Group):
    """https://developer.zendesk.com/api-reference/ticketing/oauth/oauth_tokens/"""

    def current(self) -> Row:
        """What the token in use is for: `scopes`, `expires_at`, `user_id`; the token itself cut to ten characters."""
        return dict(self._get("/oauth/tokens/current", "token"))

    def revoke_current(self) -> None:
        """End the token in use."""
        self._send("DELETE", "/oauth/tokens/current")
