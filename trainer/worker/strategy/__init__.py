"""How a model is spread over the workers, and its steps."""
