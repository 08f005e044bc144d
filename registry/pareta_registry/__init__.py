"""The private registry: task and alias to open weights. Never imports the agent."""
