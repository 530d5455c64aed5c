"""What a user types: keys, ranges, other projects' words, quotes."""
