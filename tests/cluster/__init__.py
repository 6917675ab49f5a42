"""The chart and the injector on a real API server; `make test-k8s` runs it."""
