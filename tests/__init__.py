"""Tests and benchmarks of the sidecar, in folders that mirror the package."""
