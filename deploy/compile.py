"""Compiles the data path with mypyc when a wheel is built; without a C compiler the wheel is pure Python.

SIDECAR_COMPILE=0 leaves it pure, =1 (CI, the image) makes a failure to compile an error. An editable install
is never compiled: a module's .so comes before its .py, so that an edit would go unseen.
"""

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Half of what runs for every request: the other half would save little more, and take a megabyte.
MODULES = [
    "flow",
    "exchange",
    "answer",
    "sender",
    "proxy",
    "settlement",
    "attempt",
    "headers",
    "openai",
    "events",
    "tries",
    "lessons",
    "clock",
    "downstream/writer",
    "downstream/connection",
    "telemetry/access_log",
    "telemetry/metrics",
    "upstream/connection",
    "upstream/queue",
    "upstream/provider",
    "upstream/endpoint",
]
# Whatever is installed: what is not (numpy, in the image) counts as anything at all.
MYPY_OPTIONS = ["--config-file=", "--ignore-missing-imports"]


class Compile(BuildHookInterface):
    """hatchling's hook."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [] if os.environ.get("SIDECAR_COMPILE") == "0" else ["mypy>=1.18", "setuptools>=77"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wish = os.environ.get("SIDECAR_COMPILE", "")
        if self.target_name != "wheel" or version == "editable" or wish == "0":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="sidecar-mypyc-")
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                built = _compile(Path(self.root), Path(self._folder.name))
        except (Exception, SystemExit) as error:  # mypyc and setuptools leave by sys.exit
            if wish == "1":
                sys.exit(f"{said.getvalue()[-4000:]}\nai-sidecar: could not be compiled: {error}")
            reason = (str(error).splitlines() or ["?"])[0][:120]
            line = f"ai-sidecar: not compiled ({reason}): pure Python, twice the CPU per request."
            print(line, file=sys.stderr)
            return
        build_data["force_include"].update({str(path): name for name, path in built.items()})
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def _compile(root: Path, into: Path) -> dict[str, Path]:
    from mypyc.build import mypycify
    from setuptools import Distribution

    before = os.getcwd()
    os.chdir(root)
    try:
        extensions = mypycify(
            [*MYPY_OPTIONS, *(f"sidecar/{name}.py" for name in MODULES)],
            opt_level="2",
            debug_level="0",
            target_dir=str(into / "c"),
            group_name="sidecar_compiled",
        )
        command = Distribution({"name": "ai-sidecar", "ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(into / "lib"), str(into / "tmp")
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)
    lib = into / "lib"
    return {str(path.relative_to(lib)): path for path in lib.rglob("*") if path.suffix in (".so", ".pyd")}
