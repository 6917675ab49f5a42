"""What operators call: health and metrics for machines, the admin interface for people."""
