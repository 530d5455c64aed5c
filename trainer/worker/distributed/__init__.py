"""The workers of a job as one of them sees them, and what they do together."""
