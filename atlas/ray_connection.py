"""A connection to Ray: a cluster at an address, or a Ray that is started on this machine."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from atlas.errors import BadInput, Missing

__all__ = ["connected", "last_line"]

#: Timeout of a connection to a cluster, in seconds.
REACH = 5.0


_QUIET = {"logging_level": logging.ERROR, "log_to_driver": False, "namespace": "feature-atlas"}


@contextmanager
def connected(address: str | None, workers: int = 0) -> Iterator[tuple[Any, bool]]:
    """Yield Ray, and whether it was started here; restore the state of Ray at the end.

    Parameters
    ----------
    address
        The cluster; if None, the connection of this process, or else a Ray of this machine.
    workers
        CPUs of a Ray that is started on this machine.

    Raises
    ------
    Missing
        If Ray is not installed, does not start, or does not answer at the address.
    BadInput
        If the address is not valid, or this process is already connected to Ray.
    """
    if address:
        # Otherwise Ray retries for minutes. It reads this variable when it is imported.
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")
    ray = _import_ray()
    if ray.is_initialized():
        if address:
            raise BadInput(
                f"The Ray cluster {address} was named, but this process is already connected to Ray. "
                "Omit ray= to use that connection, or call ray.shutdown() first."
            )
        yield ray, False
        return
    with _quiet_stdout(ray):
        try:
            if address:
                _reach(ray, address)
                yield ray, False
            else:
                _start(ray, workers)
                yield ray, True
        finally:
            ray.shutdown()


def last_line(error: BaseException) -> str:
    """Return the last line of an error's message, or its type if it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _import_ray() -> Any:
    try:
        return import_module("ray")
    except ImportError as error:
        raise Missing(
            "Workers run on Ray, which is not installed. Run `pip install 'feature-atlas[ray]'`, or omit "
            "`workers` and `ray`."
        ) from error


def _start(ray: Any, workers: int) -> None:
    """Start Ray on this machine only, without telemetry and dashboard."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # By default Ray's workers have a lower priority than this process.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Silences a notice on stderr about a future change of Ray that has no effect here.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(address="local", num_cpus=workers, include_dashboard=False, **_QUIET)
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
        raise Missing(
            f"Ray could not be started on this machine ({last_line(error)}). Omit `workers`."
        ) from error


def _reach(ray: Any, address: str) -> None:
    """Connect to a cluster, or fail within seconds."""
    client = address.startswith("ray://")
    where = address.removeprefix("ray://")
    if address != "auto":
        _check_address(where)
    try:
        # Ray's core writes its attempts directly to stderr.
        with _no_stderr():
            ray.init(address=address, **_QUIET)
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError, ImportError) as error:
        if client and "ray[client]" in str(error):
            raise Missing(
                f"{address} needs Ray's client, which is not installed. Run "
                "`pip install 'ray[client]'`."
            ) from error
        raise Missing(
            f"No Ray cluster was reached at {address} ({last_line(error)}). Check the address, and that "
            "Python and Ray have the same versions there. If the cluster requires a token, set "
            "RAY_AUTH_MODE=token."
        ) from error


def _check_address(where: str) -> None:
    """Check that something listens at an address, since Ray takes minutes to fail."""
    host, _, port = where.rpartition(":")
    if not host or not port.isdecimal():
        raise BadInput(
            f"{where!r} is not a valid address of a Ray cluster: 'auto', HOST:PORT or ray://HOST:PORT is "
            "expected."
        )
    try:
        socket.create_connection((host, int(port)), timeout=REACH).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise Missing(
            f"No Ray cluster was reached at {where} ({last_line(error)}). Check the address, and that "
            "the cluster runs (`ray status` there)."
        ) from error


@contextmanager
def _quiet_stdout(ray: Any) -> Iterator[None]:
    """Stop Ray from reporting dead workers on stdout, which is for results; Ray has no setting for it."""
    private: Any = getattr(getattr(ray, "_private", None), "worker", None)
    original = getattr(private, "print_to_stdstream", None)
    if original is None:  # a version of Ray without this function
        yield
        return
    private.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        private.print_to_stdstream = original


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Redirect the stderr of the process to the null device, for native code too."""
    original = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.close(null)
