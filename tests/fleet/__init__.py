"""Tests of the fleet: limits that many sidecars share."""
