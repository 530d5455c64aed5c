"""One process of a job: what trains. Only this package and the algorithms import torch."""
