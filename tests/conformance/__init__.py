"""Bytes in, bytes expected: published and own vectors sent over real sockets."""
