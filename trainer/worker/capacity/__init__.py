"""What fits the devices: measured and estimated before anything is trained."""
