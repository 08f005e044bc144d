"""Who knows everybody? The composition root."""
