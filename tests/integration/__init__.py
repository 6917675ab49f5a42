"""The running product on real sockets, with real clients."""
