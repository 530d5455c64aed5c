"""Channels: folders and files that an algorithm reads by itself."""
