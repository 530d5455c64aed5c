"""Built-in algorithms, one a file, written against the API that a plugin has."""
