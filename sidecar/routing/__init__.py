"""Which models may answer a request: virtual models, rules, splits, fallbacks, break-glass."""
