"""`python -m tests.fleet`: 50 sidecars on one Redis for a minute each; exits 1 where a limit does not hold.

Each line is one load. `peak` is the most that was admitted in any span of time less what was refilled in it,
so it has to stay within the capacity and the bound. Round trips are for each busy sidecar and second.
"""

import argparse
import sys

import uvloop

from sidecar.fleet.leases import EARNED_TRIPS, SAVED_TRIPS
from tests.fleet.simulation import Fleet, fleet_on
from tests.support.redis import redis_binary, redis_server

COUNT = 50
# Name, rate a minute, capacity, callers a second of each sidecar.
LOADS: tuple[tuple[str, int, int, tuple[float, ...]], ...] = (
    ("all far beyond the limit", 50, 50, (2.0,) * COUNT),
    ("all a little beyond it", 50, 50, (0.03,) * COUNT),
    ("one busy, 49 idle", 50, 50, (10.0,) + (0.0,) * (COUNT - 1)),
    ("one at twice the limit, 20 small", 3000, 100, (100.0,) + (2.0,) * 20 + (0.2,) * 29),
    ("all within the limit", 12_000, 12_000, (3.0,) * COUNT),
)
HEAD = ("load", "offered", "admitted", "limit", "peak", "capacity", "bound", "trips/s", "failures")


async def run(seconds: float) -> bool:
    """Print the table; whether every limit held."""
    print("{:34}{:>9}{:>10}{:>8}{:>9}{:>10}{:>7}{:>9}{:>10}".format(*HEAD), flush=True)
    is_held = True
    for name, rate, capacity, per_s in LOADS:
        with redis_server() as server:
            async with fleet_on(server, COUNT, rate, capacity) as fleet:
                before = fleet.round_trips()
                await fleet.run(per_s, seconds, seed=1)
                is_held = _line(name, fleet, fleet.round_trips() - before, sum(map(bool, per_s))) and is_held
    return is_held


def _line(name: str, fleet: Fleet, round_trips: int, busy: int) -> bool:
    admitted = len(fleet.admitted())
    offered = sum(sidecar.offered for sidecar in fleet.sidecars)
    failures = sum(sidecar.leases.failures for sidecar in fleet.sidecars)
    limit = fleet.capacity + fleet.rate * fleet.took_s / 60
    # Nobody dies here, so there are but the local shares, of what is left when round trips are used up.
    bound = fleet.capacity
    trips = round_trips / busy / fleet.took_s
    print(
        f"{name:34}{offered:9}{admitted:10}{limit:8.0f}{fleet.peak():9.1f}{fleet.capacity:10}{bound:7}"
        f"{trips:9.2f}{failures:10}",
        flush=True,
    )
    affordable = SAVED_TRIPS / fleet.took_s + EARNED_TRIPS
    return fleet.peak() <= fleet.capacity + bound and trips <= affordable and failures == 0


def main() -> int:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each load")
    options = parser.parse_args()
    if redis_binary() is None:
        parser.error("redis-server is not installed: apt-get install redis-server")
    return 0 if uvloop.run(run(options.seconds)) else 1


if __name__ == "__main__":
    sys.exit(main())
