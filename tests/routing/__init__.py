"""From the model a caller names to the models that may answer."""
