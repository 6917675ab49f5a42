"""`python -m tests.cluster`: builds what a cluster needs, once, and runs the tests of this folder on it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.cluster import tools


def main(arguments: list[str]) -> int:
    """Build, and become pytest; returns only where that is not possible. Without Go, that is said."""
    if tools.find() is None:
        if not tools.has_go():
            print("test-k8s: nothing is tested: etcd and kube-apiserver are built with Go, and there is none")
            return 0
        print("etcd, kube-apiserver and helm are built once, in about five minutes", flush=True)
        try:
            tools.build()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"test-k8s: {error}", file=sys.stderr)
            return 1
    sys.stdout.flush()
    # In the place of this process: Ctrl-C is pytest's, which stops what it started.
    os.execv(sys.executable, [sys.executable, "-m", "pytest", str(Path(__file__).parent), *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
