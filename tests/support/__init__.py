"""What the tests share: a sidecar on free ports, a provider that says any bytes, a raw client."""
