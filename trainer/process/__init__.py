"""This process and its machine: memory, signals, clocks, folders, output."""
