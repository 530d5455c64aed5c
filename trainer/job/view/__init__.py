"""What a person sees of jobs."""
