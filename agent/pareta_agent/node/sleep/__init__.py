"""Scale to zero: puts idle endpoints to sleep and wakes them on demand."""
