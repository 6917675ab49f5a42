"""The caller's side: listeners, the fast-path connection, and the lane for what it does not serve."""
