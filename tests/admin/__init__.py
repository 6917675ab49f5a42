"""Admin and health listeners: what operators and machines see."""
