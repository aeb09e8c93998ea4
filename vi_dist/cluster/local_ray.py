"""A local Ray for the occasion."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping

import ray

from vi_dist.exported import exported

# A process has one Ray at a time: the next one waits until the last has ended.
_ONE = threading.Lock()


class LocalRay:
    """A Ray of our own, started and ended by one thread.

    The kernel ends Ray's processes when the thread that started them does, so the thread lives as long as Ray.

    Args:
        environment: what its processes have in their environment beside ours.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._ready, self._over = threading.Event(), threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="local-ray", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when Ray is there. Raises what its start raised."""
        while not self._ready.wait(0.2):
            pass
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        """End Ray; one that is still starting ends by itself when it is there, or with this process.

        This waits until Ray is gone: references to its objects that are dropped while it goes can crash the process.
        """
        self._over.set()
        if self._ready.is_set():
            self._thread.join()

    def _run(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        with _ONE:
            try:
                with exported(self._environment):
                    # "local", or Ray would take any cluster that it finds on this machine for ours.
                    ray.init(
                        address="local",
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                    )
            except BaseException as error:
                self._fault = error
            self._ready.set()
            self._over.wait()
            ray.shutdown()
