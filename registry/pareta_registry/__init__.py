"""Registry: resolves a task and an alias to open weights. Never imports the agent."""
