"""The tests mirror the package; `integration` and `conformance` use real sockets, `support` is shared."""
