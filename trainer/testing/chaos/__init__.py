"""Faults made on purpose, to show that a job outlives them."""
