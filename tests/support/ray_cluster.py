"""Run as a program: a Ray cluster of two CPUs, until stdin is closed. Prints its address."""

import logging
import os
import sys

if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - else tests wait for other running programs
    import ray

    context = ray.init(
        address="local", num_cpus=2, include_dashboard=False, logging_level=logging.ERROR
    )
    print(context.address_info["gcs_address"], flush=True)
    sys.stdin.read()
    ray.shutdown()
