"""Ray as a launcher."""

from launchers.ray.launcher import Ray

__all__ = ["Ray"]
