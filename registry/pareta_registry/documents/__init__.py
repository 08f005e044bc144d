"""Documents: small named texts in a directory, over HTTP or in an OCI repository."""
