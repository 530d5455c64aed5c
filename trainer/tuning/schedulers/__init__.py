"""Which trials stop early, and which go on in their place."""
