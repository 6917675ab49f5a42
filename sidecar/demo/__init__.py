"""Simulated OpenAI-compatible providers, and the terminal of `sidecar demo`. No real traffic goes here."""
