"""`python -m pareta_registry` is `pareta-registry`."""

from pareta_registry.cli import main

main()
