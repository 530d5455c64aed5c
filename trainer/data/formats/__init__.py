"""Readers of the formats that data comes in."""
