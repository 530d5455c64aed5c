"""Studies: many jobs, each a trial, over Ray Tune and Optuna. Imports neither until a verb needs them."""
