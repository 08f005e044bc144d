"""Process: an engine's process group, its files and its memory."""
