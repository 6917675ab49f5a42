"""`python -m tests.cluster.replica ACCOUNT ARGUMENTS...`: `sidecar ARGUMENTS` as one container of a pod.

ACCOUNT is the folder of token, namespace and ca.crt, which a kubelet mounts at one fixed place. With
SIDECAR_TEST_HURRY set, certificates live for seconds: the same steps, with every time shortened alike.
"""

import os
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path

from sidecar.cli import main
from sidecar.k8s import api, certificates, keeper


def hurry() -> None:
    """What takes a year takes half a minute."""
    certificates.AUTHORITY_LIFE = timedelta(seconds=24)
    certificates.CERTIFICATE_LIFE = timedelta(seconds=9)
    certificates.PUBLISH = timedelta(seconds=3)
    certificates.BACKDATED = timedelta(seconds=1)
    keeper.ROUND_S = 0.5
    keeper.RETRY_S = 0.2


if __name__ == "__main__":
    setattr(api, "in_cluster", partial(api.in_cluster, account=Path(sys.argv[1])))  # noqa: B010
    if "SIDECAR_TEST_HURRY" in os.environ:
        hurry()
    main(sys.argv[2:])
