"""What devices do and where the time goes, beside the steps."""
