"""Benchmarks: the sidecar beside a textbook proxy, nginx and Envoy, interleaved in one run.

    python -m tests.bench [--quick] [--only plain] [--proxies sidecar,envoy] [--json FILE]
    python -m tests.bench.parts        ns per call of single functions

Theory of operation. Three kinds of process: one upstream (`upstream.py`) that answers from ready-made
bytes, one load generator (`load.py`) that checks every answer byte for byte, and the proxies, of which one
at a time is loaded. A round measures every proxy once, in an order that rotates; what is reported is the
median over rounds, and a ratio is the median of the ratios *within* each round, so that a noisy
neighbour or a clock that changes speed hits both sides of it alike.

The primary figure is CPU time of the proxy per unit of work, not throughput: a sidecar shares its cores with
the app, and CPU time hardly moves when something else runs on the machine. With two cores or more the proxy
has the last core to itself and everything else stays off it.

Nothing here asserts on time: a missed target is printed with a ✗ and the exit code stays 0. A wrong answer
ends the run at once, because a benchmark that measures errors is worthless.
"""
