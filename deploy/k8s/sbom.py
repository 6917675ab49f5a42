"""Prints what is installed beside this Python as a CycloneDX 1.6 bill: names, versions, licences.

Python packages only; the base image's are told by its own. Without time stamp or serial number, so that the
same image has the same bill.
"""

import json
import sys
from importlib.metadata import Distribution, distributions
from typing import Any

PRODUCT = "ai-sidecar"


def bill(installed: list[Distribution]) -> dict[str, Any]:
    """The bill of these distributions; the product itself is its subject."""
    parts = sorted((_component(one) for one in installed), key=lambda part: str(part["name"]))
    subject = [part for part in parts if part["name"] == PRODUCT]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**subject[0], "type": "application"}} if subject else {},
        "components": [part for part in parts if part["name"] != PRODUCT],
    }


def _component(distribution: Distribution) -> dict[str, Any]:
    name = distribution.metadata["Name"].lower().replace("_", "-")
    locator = f"pkg:pypi/{name}@{distribution.version}"
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": locator,
        "name": name,
        "version": distribution.version,
        "purl": locator,
    }
    if expression := distribution.metadata.get("License-Expression"):
        found["licenses"] = [{"expression": expression}]
    # Older packages put the whole text of their licence where its name belongs.
    elif (named := distribution.metadata.get("License") or "") and len(named) < 100:
        found["licenses"] = [{"license": {"name": named}}]
    return found


if __name__ == "__main__":
    json.dump(bill(list(distributions())), sys.stdout, indent=2)
    sys.stdout.write("\n")
