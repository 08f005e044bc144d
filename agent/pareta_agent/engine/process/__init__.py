"""Process: an engine's process group, files and memory."""
