"""SLURM as a launcher."""

from launchers.slurm.launcher import Slurm

__all__ = ["Slurm"]
