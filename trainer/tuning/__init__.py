"""Tuning: a study of many trials, each of which is a job."""
