"""The user's own code, read without running it."""
