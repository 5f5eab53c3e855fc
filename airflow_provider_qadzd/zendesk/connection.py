"""What a Zendesk connection says: its checked extra, and the one spelling of its address. Nothing here does any I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from airflow_provider_qadzd.errors import FixFirst

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class ZendeskSettings:
    """What a Zendesk connection's extra may say. `timeout` is in seconds; `rate_share` is our part of each limit.

    `allow_http` is for a simulation on another machine; Zendesk itself is only reached by https.
    """

    auth: str = "client_credentials"
    scope: str = "read write"
    redirect_uri: str = ""
    timeout: float = 60.0
    rate_share: float = 0.7
    bulk_import: str = "auto"
    allow_http: bool = False

    def __post_init__(self) -> None:
        uri = urlsplit(self.redirect_uri)
        safe = uri.scheme == "https" or (uri.scheme == "http" and uri.hostname in LOOPBACK)
        auths = ("client_credentials", "authorization_code", "api_token")
        for name, good, allowed in (
            ("auth", self.auth in auths, " or ".join(auths)),
            ("bulk_import", self.bulk_import in ("auto", "on", "off"), "auto, on or off"),
            ("rate_share", 0 < self.rate_share <= 1, "above 0 and at most 1"),
            ("timeout", self.timeout > 0, "above 0 seconds"),
            ("redirect_uri", safe or not self.redirect_uri, "the https address registered with the OAuth client"),
        ):
            if not good:
                what = f"Zendesk connection, extra: {name} is {getattr(self, name)!r}."
                raise FixFirst(what, advice=f"It must be {allowed}.")


def base_url_of(host: str, *, allow_http: bool = False) -> str:
    """`https://acme.zendesk.com` from a subdomain, a host or a full address, with or without `/api/v2`.

    Plain http only for this machine, or with `allow_http`. FixFirst for anything else, credentials or a query.
    """
    text = host.strip()
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", text) and text.lower() != "localhost":
        text = f"{text}.zendesk.com"
    if "://" not in text:
        text = ("http://" if re.match(r"(localhost|127\.0\.0\.1)(:|/|$)", text, re.I) else "https://") + text
    try:
        parts = urlsplit(text)
        named = re.fullmatch(r"[\w.:-]+", parts.hostname or "", re.ASCII)
        good = bool(named) and parts.port != 0 and parts.path.rstrip("/") in ("", "/api/v2")
    except ValueError:  # the port is not a number
        good = False
    plain = good and parts.scheme == "http" and (allow_http or parts.hostname in LOOPBACK)
    if not good or "@" in parts.netloc or parts.query or parts.fragment or not (plain or parts.scheme == "https"):
        # Not repeated here: it may hold a password.
        raise FixFirst("The Zendesk host is not usable.", advice="Give a subdomain, or https://SUBDOMAIN.zendesk.com.")
    usual = ":443" if parts.scheme == "https" else ":80"
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(usual)}"
