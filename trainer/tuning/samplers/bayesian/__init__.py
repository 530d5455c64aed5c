"""The sampler behind search=bayes."""
