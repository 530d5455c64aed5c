"""Launchers, one a file: each brings up the agents of a job somewhere and tells how they fare."""
