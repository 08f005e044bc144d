"""Who asks, and where to?"""
