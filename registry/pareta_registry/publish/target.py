"""Publishing target: publishes an artifact to an OCI registry or a bucket, by the target's scheme."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pareta_registry.artifacts.manifest import Manifest
from pareta_registry.errors import ArtifactError
from pareta_registry.publish.oci_publisher import publish
from pareta_registry.signing.keys import PrivateKey
from pareta_registry.stores.oci_reference import parse_reference
from pareta_registry.stores.settings import StoreSettings


async def publish_anywhere(
    root: Path, target: str, settings: StoreSettings, key: PrivateKey | None = None
) -> tuple[Manifest, str]:
    """The manifest, and the permanent source for a catalog."""
    scheme = urlsplit(target).scheme
    if scheme in ("s3", "gs", "az"):
        from pareta_registry.publish.bucket_publisher import (
            publish_to_bucket,  # obstore is loaded on first use
        )

        return await publish_to_bucket(root, target, settings, key), target
    if scheme != "oci":
        raise ArtifactError(
            "source_unsupported",
            f"{target} is no target for artifacts",
            "use oci://, s3://, gs:// or az://; a directory needs no publication, and for hf:// upload to the mirror",
        )
    manifest, digest = await publish(root, target, settings, key=key)
    reference = parse_reference(target)
    return manifest, f"oci://{reference.host}/{reference.name}@{digest}"
