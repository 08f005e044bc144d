"""OCI reference: parses `oci://host[:port]/repository[:tag|@digest]`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from yarl import URL

from pareta_registry.errors import ArtifactError

_SOURCE = re.compile(
    r"oci://(?P<host>[A-Za-z0-9.-]+(?::\d+)?)/(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True, slots=True)
class OciReference:
    """`reference` names the manifest in requests: the digest if present, else the tag."""

    host: str
    name: str
    reference: str

    def origin(self, plain_http: tuple[str, ...]) -> URL:
        scheme = "http" if self.host.rsplit(":", 1)[0] in plain_http else "https"
        return URL(f"{scheme}://{self.host}")


def parse_reference(source: str) -> OciReference:
    found = _SOURCE.fullmatch(source)
    if not found:
        raise ArtifactError(
            "source_invalid", f"{source} is no OCI reference", "write oci://host/repository:tag or …@sha256:…"
        )
    return OciReference(found["host"], found["name"], found["digest"] or found["tag"] or "latest")


def signature_tag(digest: str) -> str:
    """The tag of a manifest's signature for sigstore's clients, in a registry without a referrers API."""
    return f"{digest.replace(':', '-')}.sig"
