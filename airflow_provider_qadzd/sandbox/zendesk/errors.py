"""The error answers of the simulated Zendesk, in the envelopes that are seen in the field.

https://developer.zendesk.com/api-reference/introduction/requests/
"""

from __future__ import annotations

from ..web import Refusal, refuse, reply_json


class Invalid(Refusal):
    """A record that fails validation: 422 RecordInvalid, with one detail for each field."""

    def __init__(self, field: str, description: str, code: str, job_error: str = "RecordInvalid") -> None:
        details = {field: [{"description": description, "error": code}]}
        body = {"error": "RecordInvalid", "description": "Record validation errors", "details": details}
        super().__init__(reply_json(body, 422))
        self.text = description
        self.job_error = job_error


class Missing(Invalid):
    """A record that is not there: 404 for a single call, a failed item in a job."""

    def __init__(self) -> None:
        super().__init__("base", "Not found", "NotFound", "NotFound")
        self.reply = reply_json({"error": "RecordNotFound", "description": "Not found"}, 404)


def not_found() -> Missing:
    """404 for a record."""
    return Missing()


def no_endpoint() -> Refusal:
    """404 for a path that does not exist."""
    return refuse(404, {"error": "InvalidEndpoint", "description": "Not found"})


def too_many_values(text: str = "Parameter  cannot specify more than 100 values") -> Refusal:
    """400 for more than 100 values; the two spaces are in the original."""
    return refuse(400, {"error": "TooManyValues", "description": text, "max_count": 100})


def bad_request(text: str) -> Refusal:
    """400 for a parameter that cannot be used."""
    return refuse(400, {"error": "BadRequest", "description": text})


def invalid_value(text: str) -> Refusal:
    """422 for a parameter value that is refused."""
    return refuse(422, {"error": "InvalidValue", "description": text})


def forbidden(text: str = "You do not have access to this page. Please contact the account owner.") -> Refusal:
    """403."""
    return refuse(403, {"error": {"title": "Forbidden", "message": text}})
