"""Notices that capacity goes away."""
