"""IPC: framed messages with file descriptors over a unix socket."""
