"""OCI authorization: provides basic credentials, or a bearer token from the realm that the registry names.

Token protocol: https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import asyncio
import json
import re

from yarl import URL

from pareta_registry.errors import ArtifactError
from pareta_registry.stores.credentials import Credentials
from pareta_registry.stores.http import HttpClient

_MAX_TOKEN_BYTES = 1 << 20
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Authorizer:
    """The Authorization header for a repository. `renew` after a 401 requests a new header, once for all waiting
    parts.
    """

    def __init__(self, http: HttpClient, origin: URL, scope: str, credentials: Credentials | None) -> None:
        self._http = http
        self._origin = origin
        self._scope = scope
        self._credentials = credentials
        self._header: str | None = None
        self._renewing = asyncio.Lock()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": self._header} if self._header else {}

    async def renew(self, challenge: str, refused: dict[str, str]) -> None:
        """Replaces the header `refused`; ArtifactError if no other header is available."""
        async with self._renewing:
            if self.headers != refused:
                return
            kind, _, rest = challenge.partition(" ")
            if kind.lower() == "bearer":
                self._header = "Bearer " + await self._token(dict(_PARAMETER.findall(rest)))
            elif kind.lower() == "basic" and self._credentials and not refused:
                self._header = self._credentials.basic
            else:
                raise self._unauthorized()

    async def _token(self, parameters: dict[str, str]) -> str:
        realm = URL(parameters.get("realm", ""))
        downgrade = self._origin.scheme == "https" and realm.scheme != "https"
        if realm.scheme not in ("http", "https") or downgrade:
            raise ArtifactError(
                "redirect_refused",
                f"{self._origin.host} names an unsafe token service",
                "configure an https realm in that registry",
            )
        query = {"scope": self._scope} | {k: v for k, v in parameters.items() if k == "service"}
        headers = {"Authorization": self._credentials.basic} if self._credentials else {}
        url = realm.update_query(query)
        async with self._http.request("GET", url, headers) as response:
            if response.status in (401, 403):
                raise self._unauthorized()
            self._http.check(response, url)
            try:
                answer = json.loads(await self._http.body(response, _MAX_TOKEN_BYTES))
                token = answer.get("token") or answer["access_token"]
            except (ValueError, KeyError, AttributeError):
                raise self._unauthorized() from None
        return str(token)

    def _unauthorized(self) -> ArtifactError:
        who = (
            f"the user {self._credentials.user}"
            if self._credentials
            else "an anonymous client: no credentials are configured"
        )
        return ArtifactError(
            "unauthorized",
            f"{self._origin.authority} refuses {self._scope} to {who}",
            f"put credentials for {self._origin.authority} into the docker config that this host uses",
        )
