"""What a user may say: composed, checked, turned into objects."""
