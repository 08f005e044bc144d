"""Store HTTP client: reads checked ranges over HTTP; converts statuses and broken connections to ArtifactErrors.

Redirects are followed here, so that credentials go only to the host of the credentials. Idle connections form a
connection pool; a retry belongs to the fetch.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, ParamSpec, TypeVar

from yarl import URL

from pareta_registry.errors import ArtifactError
from pareta_registry.stores.connection import StoreConnection, StoreResponse
from pareta_registry.stores.settings import StoreSettings

P = ParamSpec("P")
T = TypeVar("T")
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_PIECE_BYTES, _SMALL_BYTES, _MAX_THREADS = 4 << 20, 1 << 16, 64
_NEXT = re.compile(r'<([^>]+)>;\s*rel="?next"?')
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def tls_context(settings: StoreSettings) -> ssl.SSLContext:
    """The system's trust, and the operator's CA in addition."""
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
    """Connections that are opened on first use, each used in a thread. No protocol above HTTP."""

    def __init__(self, settings: StoreSettings, where: str) -> None:
        self._settings = settings
        self._where = where
        self._idle: dict[URL, list[StoreConnection]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._tls: ssl.SSLContext | None = None

    async def close(self) -> None:
        for connection in (each for idle in self._idle.values() for each in idle):
            connection.close()
        self._idle.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None

    @asynccontextmanager
    async def request(
        self, method: str, url: URL, headers: Mapping[str, str], data: Any = None
    ) -> AsyncIterator[StoreResponse]:
        """The answer after redirects, of any status; ArtifactError without an answer.

        `data` is bytes, or an iterable of bytes that can be read twice.
        """
        answer: StoreResponse | None = None
        try:
            answer = await self._follow(method, url, dict(headers), data)
            yield answer
        except ssl.SSLCertVerificationError as error:
            raise self._untrusted(url, error) from None
        except (HTTPException, OSError) as error:
            raise self._unreachable(url, error) from None
        finally:
            if answer is not None:
                self._give_back(answer)

    async def pieces(
        self, answer: StoreResponse, url: URL, start: int, stop: int
    ) -> AsyncGenerator[memoryview]:
        """The body of an answer to a request for bytes [start, stop), after a check of the range."""
        self.check(answer, url)
        self._check_range(answer, url, start, stop)
        buffer = memoryview(bytearray(min(_PIECE_BYTES, max(1, stop - start))))
        while count := await self._threaded(answer.connection, answer.fill, buffer):
            yield buffer[:count]

    async def body(self, answer: StoreResponse, max_bytes: int) -> bytes:
        """The first `max_bytes` of a small answer."""
        data, buffer = bytearray(), memoryview(bytearray(_SMALL_BYTES))
        while len(data) < max_bytes:
            count = await self._threaded(answer.connection, answer.fill, buffer)
            if not count:
                break
            data += buffer[:count]
        return bytes(data[:max_bytes])

    def check(self, answer: StoreResponse, url: URL) -> None:
        """ArtifactError unless the status is a success; retryable if a later attempt may succeed."""
        status = answer.status
        if status < 300:
            return
        place = f"{self._where} answered {status} for {url.path}"
        if status in (401, 403):
            code = "unauthorized" if status == 401 else "forbidden"
            raise ArtifactError(code, place, f"check the credentials that this host has for {url.host}")
        if status == 404:
            raise ArtifactError("artifact_missing", place, "publish the artifact, or correct the source")
        retryable = status in (408, 425, 429) or status >= 500
        raise ArtifactError(
            "store_busy" if retryable else "store_refused",
            place,
            "try again later" if retryable else "check the store's log",
            retryable=retryable,
            retry_after_s=retry_after_s(answer.headers.get("Retry-After")),
        )

    def _check_range(self, answer: StoreResponse, url: URL, start: int, stop: int) -> None:
        if answer.status == 200 and start == 0 and answer.length_bytes in (None, stop):
            return
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status == 206 and found and (int(found[1]), int(found[2])) == (start, stop - 1):
            return
        raise ArtifactError(
            "range_refused",
            f"{self._where} did not send bytes {start} to {stop} of {url.path}, but {answer.status} "
            f"{answer.headers.get('Content-Range', 'without a range')}",
            "the file there is shorter than declared, or a proxy drops ranges: publish it again, or bypass the proxy",
        )

    async def _follow(self, method: str, url: URL, headers: dict[str, str], data: Any) -> StoreResponse:
        for _ in range(_MAX_REDIRECTS):
            answer = await self._exchange(method, url, headers, data)
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not location:
                return answer
            try:
                await self.body(answer, _SMALL_BYTES)
            finally:
                self._give_back(answer)
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
            "redirect_refused", f"{self._where} redirects without end", "check the store's configuration"
        )

    async def _exchange(self, method: str, url: URL, headers: Mapping[str, str], data: Any) -> StoreResponse:
        """Uses an idle connection, if any. Connections that the server closed meanwhile are skipped."""
        while True:
            idle = self._idle.get(url.origin())
            connection = (
                idle.pop() if idle else StoreConnection(url.origin(), self._trust(url), self._settings)
            )
            try:
                return await self._threaded(connection, connection.exchange, method, url, headers, data)
            except BaseException as error:
                if not isinstance(error, asyncio.CancelledError):
                    connection.close()
                if not (connection.is_used and isinstance(error, ConnectionError)):
                    raise

    async def _threaded(
        self, connection: StoreConnection, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Runs a connection's blocking work in a thread. A cancelled caller returns at once; the connection is closed
        at the end.
        """
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_MAX_THREADS, "store")
        running = self._threads.submit(work, *args, **kwargs)
        waiting = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            connection.cut()
            running.add_done_callback(lambda _: connection.close())
            raise

    def _give_back(self, answer: StoreResponse) -> None:
        connection = answer.connection
        if answer.is_whole and self._threads is not None:
            connection.is_used = True
            self._idle.setdefault(connection.origin, []).append(connection)
        elif not connection.is_cut:
            connection.close()

    def _trust(self, url: URL) -> ssl.SSLContext | None:
        if url.scheme != "https":
            return None
        if self._tls is None:
            self._tls = tls_context(self._settings)
        return self._tls

    def _untrusted(self, url: URL, error: Exception) -> ArtifactError:
        return ArtifactError(
            "tls_untrusted",
            f"{url.host} sent a certificate that this host does not trust: {error}",
            "name the signing CA in `ca_file`",
        )

    def _unreachable(self, url: URL, error: Exception) -> ArtifactError:
        reason = str(error) or type(error).__name__
        return ArtifactError(
            "store_unreachable",
            f"{self._where} cannot be read: {reason}",
            f"check that this host reaches {url.host}:{url.port}",
            retryable=True,
        )


def next_page(url: URL, answer: StoreResponse) -> URL | None:
    """The next page of a list, by the Link header."""
    found = _NEXT.search(answer.headers.get("Link", ""))
    return url.join(URL(found[1], encoded=True)) if found else None


def retry_after_s(value: str | None) -> float | None:
    """The seconds of a Retry-After header, None without a readable value."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
