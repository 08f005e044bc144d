"""Entry point of `python -m pareta_registry` and of the script `pareta-registry`."""

from pareta_registry import early_signals

early_signals.hold_for_server()

from pareta_registry.cli.main import main  # noqa: E402 an interrupt during this import must not be lost

if __name__ == "__main__":
    main()
