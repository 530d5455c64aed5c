"""The training itself: its loop, and what algorithms see of it."""
