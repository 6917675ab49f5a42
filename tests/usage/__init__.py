"""Tests of sidecar.usage."""
