"""The injector: pods and reviews of many shapes, real TLS, and an API server with real conflicts."""
