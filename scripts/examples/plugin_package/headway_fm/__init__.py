"""Factorization machines for Headway: `algorithm=fm`."""
