"""The caller's side, without sockets."""
