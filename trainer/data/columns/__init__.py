"""Cells of one column as numbers."""
