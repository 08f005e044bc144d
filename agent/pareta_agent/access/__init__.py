"""Access: API keys, rate limits and credit of callers."""
