"""Entry point of `python -m pareta_agent` and of the script `pareta-agent`."""

from pareta_registry import early_signals

early_signals.hold_for_server()

import gc  # noqa: E402 a signal during the imports must not be lost

gc.disable()  # until the command runs: imports make little garbage and many objects to walk

from pareta_agent.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
