"""Where the next point of a study comes from."""
