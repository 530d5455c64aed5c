"""The job directory: the wire format by which submitter, agents, workers, tuner and people meet."""
