"""Is it running?"""
