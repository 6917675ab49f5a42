"""Answers that are given again: which requests may share one, for how long, and how it is sent anew."""
