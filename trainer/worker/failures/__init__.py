"""What goes wrong in a worker, told in one line."""
