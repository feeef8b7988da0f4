"""Real clients against a real gateway: each in its own process and environment, with the counts of its own test runner."""
