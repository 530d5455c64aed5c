"""A job directory on S3."""
