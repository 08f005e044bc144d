"""An artifact to wherever its target says: a registry or a bucket."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pareta_registry.errors import ArtifactError
from pareta_registry.keys import PrivateKey
from pareta_registry.manifest import Manifest
from pareta_registry.publish import publish
from pareta_registry.stores.oci_reference import parse_reference
from pareta_registry.stores.settings import StoreSettings


async def publish_anywhere(
    root: Path, target: str, settings: StoreSettings, key: PrivateKey | None = None
) -> tuple[Manifest, str]:
    """What was published, and the source under which a catalog names it for good."""
    scheme = urlsplit(target).scheme
    if scheme in ("s3", "gs", "az"):
        from pareta_registry.publish_bucket import publish_to_bucket  # obstore is loaded where it is used

        return await publish_to_bucket(root, target, settings, key), target
    if scheme != "oci":
        raise ArtifactError(
            "source_unsupported",
            f"nothing is published to {target}",
            "use oci://, s3://, gs:// or az://; a directory needs no publishing, and for hf:// upload to the mirror",
        )
    manifest, digest = await publish(root, target, settings, key=key)
    reference = parse_reference(target)
    return manifest, f"oci://{reference.host}/{reference.name}@{digest}"
