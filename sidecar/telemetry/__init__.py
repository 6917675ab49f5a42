"""What operators see: metrics, quantiles and the access log."""
