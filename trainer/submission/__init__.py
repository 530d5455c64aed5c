"""From a composed config to a job that is submitted and followed."""
