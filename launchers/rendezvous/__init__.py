"""How the agents of a job's nodes meet."""
