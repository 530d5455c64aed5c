"""What a training keeps, when, and as which files."""
