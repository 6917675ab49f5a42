"""Limits that hold for many sidecars as for one: blocks of them are leased from Redis in the background."""
