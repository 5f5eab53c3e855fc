"""Codes, access tokens and refresh tokens, and when each of them dies.

https://developer.zendesk.com/documentation/api-basics/authentication/refresh-token/
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass

CODE_LIFE = 120


@dataclass(slots=True)
class Code:
    """An authorization code: 120 seconds, one use."""

    redirect_uri: str
    scope: str
    challenge: str | None
    expires: float


@dataclass(slots=True)
class Grant:
    """An access token with the refresh token that replaces it, if it has one."""

    id: int
    access: str
    refresh: str | None
    scope: str
    created: float
    expires: float
    refresh_expires: float


class Tokens:
    """What has been granted. A refresh kills the old pair; an old refresh token does not harm its successor."""

    def __init__(self) -> None:
        self._codes: dict[str, Code] = {}
        self._access: dict[str, Grant] = {}
        self._refresh: dict[str, Grant] = {}
        self._next = 9000001

    def new_code(self, redirect_uri: str, scope: str, challenge: str | None, now: float) -> str:
        value = secrets.token_hex(20)
        self._codes[value] = Code(redirect_uri, scope, challenge, now + CODE_LIFE)
        return value

    def take_code(self, value: str, redirect_uri: str | None, verifier: str | None, now: float) -> Code | None:
        """The code's grant, once; None when it is unknown, too old, or fails its checks."""
        code = self._codes.pop(value, None)
        if code is None or code.expires <= now or code.redirect_uri != redirect_uri:
            return None
        if code.challenge is not None and code.challenge != s256(verifier or ""):
            return None
        return code

    def grant(self, scope: str, now: float, ttl: float, refresh_ttl: float | None) -> Grant:
        refresh = secrets.token_hex(32) if refresh_ttl is not None else None
        grant = Grant(self._next, secrets.token_hex(32), refresh, scope, now, now + ttl, now + (refresh_ttl or 0))
        self._next += 1
        self._access[grant.access] = grant
        if refresh is not None:
            self._refresh[refresh] = grant
        return grant

    def take_refresh(self, value: str, now: float) -> Grant | None:
        """Use up a refresh token; its access token dies with it."""
        grant = self._refresh.pop(value, None)
        if grant is None or grant.refresh_expires <= now:
            return None
        self._access.pop(grant.access, None)
        return grant

    def find(self, access: str, now: float) -> Grant | None:
        grant = self._access.get(access)
        return grant if grant is not None and grant.expires > now else None

    def revoke(self, access: str) -> None:
        grant = self._access.pop(access, None)
        if grant is not None and grant.refresh is not None:
            self._refresh.pop(grant.refresh, None)

    def revoke_all(self) -> None:
        self._access.clear()
        self._refresh.clear()

    def expire_access(self) -> None:
        """Every access token dies; refresh tokens live on."""
        self._access.clear()


def s256(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
