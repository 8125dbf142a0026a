"""A Ray cluster of several nodes on this machine, for tests/test_ray.py and benchmarks/cluster.py.

    .venv-cluster/bin/python -m tests.ray_nodes 2            two nodes with one CPU each, and a head without CPUs
    .venv-cluster/bin/python -m tests.ray_nodes 2 --pin      node n runs only on CPU n

Prints the address. For each line on standard input it kills a node at once and prints the number of those left, until the input ends.
"""

from __future__ import annotations

import os
import sys

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_worker_register_timeout_seconds": "600"}

from ray.cluster_utils import Cluster

STORE = 80 * 2**20  # bytes per node; Ray's minimum is 75 MiB
DETECTION = {"health_check_period_ms": 500, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 3}


def main(count: int, is_pinned: bool) -> None:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False, "_system_config": DETECTION},
    )
    try:
        nodes = []
        for number in range(count):
            if is_pinned:
                os.sched_setaffinity(0, {number % (os.cpu_count() or 1)})
            nodes.append(cluster.add_node(num_cpus=1, object_store_memory=STORE))
        print(cluster.address, flush=True)
        for _ in sys.stdin:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            print(len(nodes), flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), "--pin" in sys.argv[2:])
