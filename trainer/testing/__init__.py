"""Suites that state what parts of Headway must keep, for plugins to run against their own."""
