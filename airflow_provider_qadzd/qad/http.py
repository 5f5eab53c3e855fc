"""One HTTP exchange with QAD, for both editions: its address, what is read of an answer, what went wrong on the way.

It promises that an address is plainly one instance over https or is refused, that no answer is read beyond a bound, and
that no error repeats an address, a parameter or a body, which may hold secrets.
"""

from __future__ import annotations

import email.utils
import ipaddress
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timezone
from urllib.parse import urlsplit

import requests
import tenacity

from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.records import Clock

AWAY = frozenset({429, 502, 503, 504})
"""Statuses that say "not now": the same request may be repeated."""
LARGEST = 256 * 1024 * 1024
"""Bytes of one answer, unpacked: about a hundred times a page of a thousand rows."""

_ATTEMPTS = 5
_PATIENCE = 90.0
"""Seconds of waiting, over all repetitions of one request, before the caller is told to try later."""
_CHUNK = 1024 * 1024
_TRANSPORT = (
    requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP, and nothing else of the exchange."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def received(response: requests.Response, largest: int = LARGEST) -> Answer:
    """The answer, read to its end; FixFirst beyond `largest` bytes. The request was sent with `stream=True`."""
    chunks, size = [], 0
    with response:
        for chunk in response.iter_content(_CHUNK):
            size += len(chunk)
            if size > largest:
                path = (response.request.path_url or "").partition("?")[0]
                raise FixFirst(
                    f"QAD's answer is larger than {largest // 2**20} MiB.", advice="Ask for smaller pages (page_size).",
                    facts=Facts("qad", response.request.method or "", path, response.status_code),
                )  # fmt: skip
            chunks.append(chunk)
    return Answer(response.status_code, response.headers, b"".join(chunks))


def header(headers: Mapping[str, str], name: str) -> str:
    """A header by name in whatever case, or empty text."""
    return next((value for key, value in headers.items() if key.lower() == name.lower()), "")


# https://www.rfc-editor.org/rfc/rfc9110#field.retry-after : seconds, or an HTTP date. Gateways send decimals as well.
def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds the server asks us to wait, never negative; None where it does not say."""
    text = header(headers, "Retry-After").strip()
    try:
        seconds = float(text)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter for a time zone of a million hours (seen)
        return None
    aware = until if until.tzinfo else until.replace(tzinfo=timezone.utc)
    return max(0.0, aware.timestamp() - now)


def host_in(location: str) -> str:
    """The host that a Location header leads to; empty for the same host, and for what is no address."""
    try:
        return urlsplit(location).hostname or ""
    except ValueError:
        return ""


# --- What is repeated ------------------------------------------------------------------------------------------------


def retrying(clock: Clock, passing: Callable[[BaseException], bool] | None = None) -> tenacity.Retrying:
    """Repeats what returns an `Answer` while QAD is away; afterwards the last answer or exception stands.

    `passing` says which exceptions may pass, by default those of the way to QAD.
    """
    return tenacity.Retrying(
        sleep=clock.sleep,
        wait=_pause(clock),
        stop=lambda state: state.attempt_number >= _ATTEMPTS or state.idle_for + state.upcoming_sleep > _PATIENCE,
        retry=tenacity.retry_if_result(lambda answer: answer.status in AWAY)
        | tenacity.retry_if_exception(passing or is_passing),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )


def _pause(clock: Clock) -> Callable[[tenacity.RetryCallState], float]:
    """What Retry-After says; else 1, 2, 4 ... seconds at most, at random below that."""

    def pause(state: tenacity.RetryCallState) -> float:
        outcome = state.outcome
        answered = outcome is not None and not outcome.failed
        told = retry_after(outcome.result().headers, clock.time()) if outcome and answered else None
        return tenacity.wait_random_exponential(max=30.0)(state) if told is None else told

    return pause


def is_passing(error: BaseException) -> bool:
    """Whether a request failed on the way, so that the same request may well succeed later."""
    return isinstance(error, _TRANSPORT) and not isinstance(error, requests.exceptions.SSLError)


def failed(error: requests.RequestException, where: str, facts: Facts) -> QadzdError:
    """`error` by what to do next; its own text, which holds addresses and parameters, stays behind."""
    if is_passing(error):
        advice = f"If this lasts: check the host of {where}."
        return TryLater("QAD does not answer.", wait=60.0, advice=advice, facts=facts)
    if isinstance(error, requests.exceptions.SSLError):
        advice = f"Set `verify` of {where} to the file of the CA that signed it."
        return FixFirst("QAD's certificate cannot be verified.", advice=advice, facts=facts)
    what = f"The request could not be made ({type(error).__name__})."
    return FixFirst(what, advice=f"Check the settings of {where}.", facts=facts)


# --- Addresses -------------------------------------------------------------------------------------------------------


def normalised_base_url(text: str, allow_http: bool, where: str = "the QAD connection") -> str:
    """`text` as the one spelling of a QAD instance: https, lower-case host, context root, no slash at the end.

    Plain http is for this machine, or where `allow_http` says so. Errors never repeat the text, which may hold secrets.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise FixFirst(f"{where}: the base URL cannot be read.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise FixFirst(f"{where}: the base URL needs a scheme and a host.", advice="Write https://host/clouderp.")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise FixFirst(f"{where}: the base URL holds credentials.", advice="Put them into login and password.")
    if "?" in text or "#" in text:
        raise FixFirst(f"{where}: the base URL has a query or a fragment.", advice="End it with the context root.")
    if parts.scheme == "http" and not allow_http and not _is_this_machine(host):
        raise FixFirst(f"{where}: the base URL is not https.", advice="Use https, or set allow_http knowingly.")
    default = {"http": 80, "https": 443}[parts.scheme]
    named = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{named}{'' if port in (None, default) else f':{port}'}{parts.path.rstrip('/')}"


def page_template(template: str, base_url: str, name: str, where: str) -> str:
    """The template of a page that people open, with the instance's address in it.

    FixFirst for anything but http(s), or a part that there is not: {base_url}, {code}, {shared_set} and {domain} are.
    """
    filled = template.strip().replace("{base_url}", base_url.replace("{", "%7B").replace("}", "%7D"))
    try:
        shown = filled.format(code="", shared_set="", domain="")
    except (KeyError, IndexError, ValueError, AttributeError):
        shown = "unknown"
    if shown and not shown.startswith(("https://", "http://")):
        advice = "Write an address with {base_url}, {code}, {shared_set} or {domain} in it."
        raise FixFirst(f"{where}: {name} is not the address of a page.", advice=advice)
    return filled


def verification(verify: str, allow_http: bool, where: str) -> bool | str:
    """`verify` as `requests` takes it. Unverified certificates are for those who accept plain http as well."""
    word = verify.strip().lower()
    if word in ("true", "1", "yes"):
        return True
    if word in ("false", "0", "no"):
        if allow_http:
            return False
        raise FixFirst(f"{where}: verify is off.", advice="Give the CA's file, or set allow_http too, knowingly.")
    return verify


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
