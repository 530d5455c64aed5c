"""From a source's cells to an encoded table, in training and afterwards."""
