"""An AI sidecar: a reverse proxy beside each pod that keeps AI APIs up, within budget and measured."""

__version__ = "0.1.0"
