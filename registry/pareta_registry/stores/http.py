"""Plain HTTP as stores need it: ranged reads, checked; statuses and broken connections as ArtifactErrors.

Redirects are followed here, so that credentials go to nobody but the host that they are for.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from yarl import URL

from pareta_registry.errors import ArtifactError
from pareta_registry.stores.settings import StoreSettings

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_BUFFER_BYTES = 1 << 18
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def tls_context(settings: StoreSettings) -> ssl.SSLContext:
    """The system's trust and the operator's CA on top."""
    context = ssl.create_default_context()
    if settings.ca_file:
        try:
            context.load_verify_locations(settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ArtifactError(
                "ca_unreadable", f"{settings.ca_file} is no readable CA bundle: {error}", "give a PEM file"
            ) from None
    return context


class HttpClient:
    """A session that opens when it is first used. Subclasses nothing, knows no protocol above HTTP."""

    def __init__(self, settings: StoreSettings, where: str) -> None:
        self._settings = settings
        self._where = where
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def request(
        self, method: str, url: URL, headers: Mapping[str, str], data: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer after redirects, whatever its status; ArtifactError when there is none."""
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._follow(method, url, dict(headers), data)
            yield response
        except aiohttp.ClientConnectorCertificateError as error:
            raise self._untrusted(url, error) from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(url, error) from None
        finally:
            if response is not None:
                response.close()

    async def pieces(
        self, response: aiohttp.ClientResponse, url: URL, start: int, stop: int
    ) -> AsyncGenerator[bytes]:
        """The body of an answer to a request for bytes [start, stop), once it is known to be that."""
        self.check(response, url)
        self._check_range(response, url, start, stop)
        async for piece in response.content.iter_any():
            yield piece

    async def body(self, response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
        """The first `max_bytes` of a small answer."""
        data = bytearray()
        async for piece in response.content.iter_any():
            data += piece
            if len(data) >= max_bytes:
                break
        return bytes(data[:max_bytes])

    def check(self, response: aiohttp.ClientResponse, url: URL) -> None:
        """ArtifactError unless the status is a success; retryable where waiting may help."""
        status = response.status
        if status < 300:
            return
        place = f"{self._where} answered {status} for {url.path}"
        if status in (401, 403):
            code = "unauthorized" if status == 401 else "forbidden"
            raise ArtifactError(code, place, f"check the credentials that this host has for {url.host}")
        if status == 404:
            raise ArtifactError("artifact_missing", place, "publish the artifact, or correct its source")
        retryable = status in (408, 425, 429) or status >= 500
        raise ArtifactError(
            "store_busy" if retryable else "store_refused",
            place,
            "try again later" if retryable else "look at the store's log",
            retryable=retryable,
            retry_after_s=retry_after_s(response.headers.get("Retry-After")),
        )

    def _check_range(self, response: aiohttp.ClientResponse, url: URL, start: int, stop: int) -> None:
        if response.status == 200 and start == 0 and response.content_length in (None, stop):
            return
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status == 206 and found and (int(found[1]), int(found[2])) == (start, stop - 1):
            return
        raise ArtifactError(
            "range_refused",
            f"{self._where} did not send bytes {start} to {stop} of {url.path}, but {response.status} "
            f"{response.headers.get('Content-Range', 'without a range')}",
            "the file there is shorter than declared, or a proxy drops ranges: publish it again, or bypass the proxy",
        )

    async def _follow(
        self, method: str, url: URL, headers: dict[str, str], data: Any
    ) -> aiohttp.ClientResponse:
        session = self._session or self._open()
        for _ in range(_MAX_REDIRECTS):
            response = await session.request(
                method, url, headers=headers, data=data, allow_redirects=False, ssl=self._trust(url)
            )
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            response.release()
            target = url.join(URL(location, encoded=True))
            if target.scheme not in ("http", "https") or (url.scheme, target.scheme) == ("https", "http"):
                raise ArtifactError(
                    "redirect_refused",
                    f"{self._where} redirects to {target.scheme}://{target.host}",
                    "use https",
                )
            if target.origin() != url.origin():
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = target
        raise ArtifactError(
            "redirect_refused", f"{self._where} redirects without end", "look at its configuration"
        )

    def _trust(self, url: URL) -> ssl.SSLContext | bool:
        if url.scheme == "https" and self._tls is None:
            self._tls = tls_context(self._settings)
        return self._tls or True

    def _open(self) -> aiohttp.ClientSession:
        timeouts = self._settings
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=timeouts.connect_timeout_s, sock_read=timeouts.answer_timeout_s
            ),
            headers={"Accept-Encoding": "identity", "User-Agent": "pareta-registry"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_BUFFER_BYTES,
            trust_env=True,
        )
        return self._session

    def _untrusted(self, url: URL, error: Exception) -> ArtifactError:
        return ArtifactError(
            "tls_untrusted",
            f"{url.host} shows a certificate that this host does not trust: {error}",
            "name the CA that signed it in `ca_file`",
        )

    def _unreachable(self, url: URL, error: Exception) -> ArtifactError:
        reason = str(error) or type(error).__name__
        return ArtifactError(
            "store_unreachable",
            f"{self._where} cannot be read: {reason}",
            f"check that this host reaches {url.host}:{url.port}",
            retryable=True,
        )


def retry_after_s(value: str | None) -> float | None:
    """The seconds that a Retry-After header asks for, None when it asks for nothing that can be read."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
