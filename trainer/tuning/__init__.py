"""`headway tune`: a study of many jobs. ray and optuna live here."""
