"""Encoded rows: kept, ordered, handed out."""
