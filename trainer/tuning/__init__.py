"""`headway tune`: many jobs, one question. What asks, what decides and what a person sees of it."""
