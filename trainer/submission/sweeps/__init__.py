"""Many jobs from one command, side by side or one after the other."""
