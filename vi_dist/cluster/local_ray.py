"""A local Ray for the occasion, which only this process can reach."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import ray
from ray._common.utils import get_default_system_temp_dir
from ray._private import ray_constants
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined] # its stubs lack them

from vi_dist.errors import SpecError
from vi_dist.exported import exported
from vi_dist.tracking.lock import FileLock

log = logging.getLogger(__name__)

PATIENCE_SECONDS = (60, 120, 240)
"""How long Ray's processes may take to come up, try by try; Ray's own 30 s are too short on a busy machine."""
LOOPBACK = "127.0.0.1"
FOLDER_PREFIX, FOLDER_LOCK = "vi-dist-ray-", "lock"

# A process has one Ray at a time: the next one waits until the last has ended.
_ONE = threading.Lock()


class LocalRay:
    """A Ray of our own, started and ended by one thread.

    It listens on the loopback interface alone, asks for a token that only its processes have, and keeps its files in a
    folder that only this user can read and that is removed at the end.

    The kernel ends Ray's processes when the thread that started them does, so the thread lives as long as Ray.

    Args:
        environment: what its processes have in their environment beside ours.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**environment, **_settings()}
        self._ready, self._over = threading.Event(), threading.Event()
        self._fault: BaseException | None = None
        self._node: Node | None = None
        self._folder, self._lock = _private_folder(Path(get_default_system_temp_dir()))
        self._thread = threading.Thread(target=self._run, name="local-ray", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def wait(self, timeout: float) -> bool:
        """Return whether Ray is there, after `timeout` seconds at most.

        Raises `SpecError` if Ray did not come up in several tries.
        """
        if self._ready.wait(timeout) and self._fault is not None:
            raise SpecError(
                f"Ray did not come up here in {len(PATIENCE_SECONDS)} tries ({self._fault}), perhaps because "
                "the machine is too busy; executor: inline (--executor inline) fits in this process, without Ray",
                key="executor",
            ) from self._fault
        return self._ready.is_set()

    def check(self) -> None:
        """Raise `RuntimeError` if the process that holds the workers has died; Ray would soon end this one, too."""
        assert self._node is not None
        raylet = self._node.all_processes[ray_constants.PROCESS_TYPE_RAYLET][0].process
        if (code := raylet.poll()) is not None:
            raise RuntimeError(
                f"Ray's raylet on this machine died (exit code {code}), and its workers with it, as happens where "
                "memory runs out; every answer so far is kept, and vi-dist resume goes on from there"
            )

    def close(self) -> None:
        """End Ray, also one that is still starting.

        This waits until Ray is gone: references to its objects that are dropped while it goes can crash the process.
        """
        atexit.unregister(self.close)
        self._over.set()
        if not self._ready.is_set():
            _end_processes(self._folder)
            # Ray's own code may wait on for processes that are dead; the thread ends with this process.
            self._thread.join(timeout=1.0)
        else:
            self._thread.join()
        self._lock.release()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self) -> None:
        with _ONE:
            try:
                self._try_to_start()
            except BaseException as error:  # whoever waits must hear of it
                self._fault = error
            self._ready.set()
            self._over.wait()
            self._disconnect()
            if self._node is not None:
                self._node.kill_all_processes(check_alive=False, allow_graceful=True)
            _end_processes(self._folder)
            _read_environment()

    def _disconnect(self) -> None:
        """Disconnect this process from our Ray; by now it may be connected to another one, which stays."""
        other = ray.is_initialized() and (
            self._node is None or ray.get_runtime_context().gcs_address != self._node.gcs_address
        )
        if not other:
            ray.shutdown()

    def _try_to_start(self) -> None:
        logging.getLogger("ray").setLevel(logging.ERROR)
        for seconds in PATIENCE_SECONDS:
            with _loopback_only(), exported({**self._environment, **_patience(seconds)}):
                _read_environment()
                if self._over.is_set() or self._start():
                    return

    def _start(self) -> bool:
        """Start Ray's processes and connect to them; returns whether that went well."""
        try:
            # As `ray start` does. `ray.init` takes no ports for the raylet's agents, and a raylet that has to learn
            # their ports from them aborts if they take more than 20 s.
            environment_agent, metrics_agent, metrics_export, dashboard_agent = _free_ports(4)
            parameters = RayParams(
                node_ip_address=LOOPBACK,
                temp_dir=os.path.join(self._folder, "r"),  # Ray opens this one to everybody
                include_dashboard=False,
                include_log_monitor=False,  # type: ignore[arg-type] # Ray says str and means bool
                no_monitor=True,
                runtime_env_agent_port=environment_agent,
                metrics_agent_port=metrics_agent,
                metrics_export_port=metrics_export,
                dashboard_agent_listen_port=dashboard_agent,
            )
            self._node = Node(
                parameters, head=True, shutdown_at_exit=False, spawn_reaper=True, ray_init_cluster=True
            )
            ray.init(address=self._node.address, log_to_driver=False, logging_level=logging.ERROR)
        except BaseException as error:
            self._fault = error
            self._disconnect()
            _end_processes(self._folder)
            if not self._over.is_set():
                log.warning("Ray did not come up, which may be tried again: %s", error)
            return False
        self._fault = None
        return True


def _private_folder(parent: Path) -> tuple[str, FileLock]:
    """A new folder that only this user can read, with the lock that says that it is used.

    Folders of processes that were killed, whose locks are free, are removed.
    """
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent))
    lock = FileLock(folder / FOLDER_LOCK)
    lock.acquire()
    if not FileLock(folder / FOLDER_LOCK).acquire():  # or this file system has no locks
        for other in parent.glob(f"{FOLDER_PREFIX}*/{FOLDER_LOCK}"):
            with suppress(OSError):
                left = FileLock(other)
                if left.acquire():
                    shutil.rmtree(other.parent, ignore_errors=True)
                    left.release()
    return str(folder), lock


def _settings() -> dict[str, str]:
    """Ray's settings that are environment variables."""
    return {
        "RAY_USAGE_STATS_ENABLED": os.environ.get("RAY_USAGE_STATS_ENABLED", "0"),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": os.environ.get("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


def _patience(seconds: int) -> dict[str, str]:
    """Ray's settings of how long it waits for its processes."""
    return {"RAY_raylet_start_wait_time_s": str(seconds), "RAY_gcs_server_port_wait_time_s": str(seconds)}


def _read_environment() -> None:
    """Have Ray's library read its settings and the token anew: it keeps what it has read once."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Within this context Ray takes the address 127.0.0.1 for what it is, not for the machine's address in its network.

    This is Ray's setting RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0, which is read once, when Ray is imported.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _end_processes(folder: str) -> None:
    """Kill the descendants of this process whose command line names a folder, and their descendants."""
    descendants = psutil.Process().children(recursive=True)
    for process in descendants:
        with suppress(psutil.Error):
            if any(folder in word for word in process.cmdline()):
                for one in (*process.children(recursive=True), process):
                    with suppress(psutil.Error):
                        one.kill()
