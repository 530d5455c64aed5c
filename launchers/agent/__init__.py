"""The agent of a node: starts the workers, hears what is asked of them, says how it went."""
