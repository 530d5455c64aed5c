"""Objects on S3, and writes that outlast faults."""
