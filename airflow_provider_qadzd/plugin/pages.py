"""What every page of ours in Airflow's api-server has: how it is rendered, its headers, who sent its form, refusals.

No page runs a script, is framed, kept, or told to another site.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from airflow.configuration import conf
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

FORM_LIFE = 8 * 3600.0
"""Seconds for which a page that is open in a browser may be used."""

_LARGEST_FORM = 8192


def own_address() -> SplitResult:
    """Where Airflow says that it is reached."""
    return urlsplit(conf.get("api", "base_url", fallback="") or "")


# https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
def sent_by_us(request: Request) -> bool:
    """Whether a form comes from a page of ours, as far as the browser says. A browser that hides it says `null`."""
    origin = request.headers.get("origin", "null")
    ours = {request.headers.get("host", ""), own_address().netloc}
    same = origin == "null" or origin.partition("://")[2] in ours
    return same and request.headers.get("sec-fetch-site", "same-origin") == "same-origin"


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form, empty for one that is too large or has too many."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_FORM:
            return {}
    try:
        return {name: values[0] for name, values in parse_qs(body.decode("latin-1"), max_num_fields=10).items()}
    except ValueError:
        return {}


@functools.cache
def _templates() -> tuple[Environment, str]:
    """The templates, and the style's hash for the content security policy."""
    folder = Path(__file__).parent / "templates"
    style = (folder / "style.css").read_text(encoding="utf-8")
    env = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    env.globals["style"] = style
    return env, base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def html(status: int, name: str, targets: str = "", **values: object) -> HTMLResponse:
    """A page. `targets` is where its forms may lead, beside ourselves."""
    env, digest = _templates()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'{targets}; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    answer = HTMLResponse(env.get_template(name).render(**values), status)
    answer.headers["Content-Security-Policy"] = policy
    return answer


def guarded(answer: Response) -> Response:
    """Nothing of this is kept, framed, or told to another site."""
    answer.headers.update(
        {
            "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
        }
    )  # fmt: skip
    return answer


def told(
    status: int, title: str, home: str, text: str, advice: str = "", hint: str = "", login: str = ""
) -> Response:  # fmt: skip
    """An error in words, with the way back to the page `title` at `home`, or to where one signs in."""
    return guarded(
        html(status, "told.html", title=title, home=home, text=text, advice=advice, hint=hint, login=login)
    )  # fmt: skip


def refused(status: int, title: str, home: str, not_allowed: tuple[str, str], hint: str = "") -> Response:
    """A person is at the browser: say it in words, and where to sign in."""
    login = ""
    if status == 401:
        root = home.split("/qadzd/", 1)[0]
        login = f"{root}/api/v2/auth/login?next={quote(home, safe='')}"
        text, advice = "You are not signed in to Airflow, or not any more.", f"Sign in, then open the page {title}."
    elif status == 403:
        text, advice = not_allowed
    else:
        text, advice = f"Airflow refused this request with {status}.", ""
    return told(status, title, home, text, advice, hint, login)
