"""An AI sidecar: a reverse proxy beside each pod that keeps AI APIs up, within budget and measured."""

from importlib.util import find_spec

__version__ = "0.1.0"


def data_path() -> str:
    """What the data path is made of, "compiled" or "pure Python": pip does not say that it could not be
    compiled (deploy/compile.py)."""
    spec = find_spec("sidecar.proxy")
    is_compiled = spec is not None and not (spec.origin or "").endswith((".py", ".pyc"))
    return "compiled" if is_compiled else "pure Python"
