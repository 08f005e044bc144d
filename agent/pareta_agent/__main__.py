"""Entry point of `python -m pareta_agent` and of the script `pareta-agent`."""

from pareta_registry import early_signals

early_signals.hold_for_server()

from pareta_agent.cli import main  # noqa: E402 a signal during this import must not be lost

if __name__ == "__main__":
    main()
