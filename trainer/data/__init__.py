"""Data: where it comes from, what it holds, in which order it is seen. Imports no torch until batches are made."""
