"""`python -m pareta_agent` is `pareta-agent`."""

from pareta_agent.cli import main

main()
