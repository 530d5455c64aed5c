"""Ray Tune, which drives a study's trials."""
