"""The trained model as files."""
