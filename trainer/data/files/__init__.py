"""Where data lies and how its cells are spelled."""
