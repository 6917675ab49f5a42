"""The answer cache in the way of requests: what there is of it, who shares it, what it does with each."""
