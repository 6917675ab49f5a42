"""Faults between the app and its providers, and a scorecard of how the sidecar takes them."""
