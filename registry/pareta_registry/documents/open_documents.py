"""Document store selection: opens the document store of a source: a directory, an HTTPS server or an OCI repository."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from yarl import URL

from pareta_registry.documents.document_store import DocumentReader, DocumentWriter
from pareta_registry.documents.file_documents import FileDocuments
from pareta_registry.documents.http_documents import HttpDocuments
from pareta_registry.documents.oci_documents import OciDocuments
from pareta_registry.errors import ArtifactError
from pareta_registry.stores.settings import StoreSettings


def open_documents(source: str, settings: StoreSettings) -> DocumentReader:
    """A reader for `file://`, `oci://` or `https://`; ArtifactError `source_unsupported` for any other source."""
    parts = urlsplit(source)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in settings.plain_http):
        return HttpDocuments(URL(source), settings)
    if parts.scheme == "http":
        raise ArtifactError(
            "source_unsupported",
            f"plain HTTP from {parts.hostname} is refused for catalogs",
            "use https://",
        )
    return writable_documents(source, settings)


def writable_documents(source: str, settings: StoreSettings) -> DocumentWriter:
    """A place that a publisher may write to: a directory or an OCI repository."""
    parts = urlsplit(source)
    if parts.scheme == "file":
        return FileDocuments(Path(unquote(parts.path)))
    if parts.scheme == "oci":
        return OciDocuments(source, settings)
    raise ArtifactError(
        "source_unsupported",
        f"{source} is no source of catalogs",
        "use file://, oci:// (or https:// to follow)",
    )
