"""Workers: gateway processes beside the main process, and the messages between both."""
