"""What `import headway` calls, a verb a file: each does what the command of its name does, and returns what Python works with."""
