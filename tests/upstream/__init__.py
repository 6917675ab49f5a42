"""The providers' side, without sockets."""
