"""One fit, here and now: a pack of one on an inline worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vi_dist.api.catalogue import catalogue
from vi_dist.api.checks import check
from vi_dist.api.fit import Fit, make_fit
from vi_dist.api.initial_values import check_used, with_initial_values
from vi_dist.cluster.driver import Driver
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.progress import ProgressCallback
from vi_dist.cluster.rows import row_of
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sweep_files import joined_params
from vi_dist.cluster.task import PackTask
from vi_dist.errors import SpecError
from vi_dist.sweep.space import resolve_one


def fit_one(
    setup: Setup,
    values: Mapping[str, Any],
    initial_values: Mapping[Any, Any] | None,
    dtype: str,
    device: str,
    progress: ProgressCallback | None,
) -> Fit:
    """Fit one configuration; see `Experiment.fit`. Raises `KeyboardInterrupt` on Ctrl-C: half a fit is none."""
    _check_device(device)
    given = initial_values is not None
    resolve_one(values, catalogue(initial_values=given), dtype)
    setup = with_initial_values(setup, initial_values)
    checked = check(setup, dtype)
    configuration = resolve_one(values, catalogue(checked.layout, given), dtype)
    check_used(setup, [configuration])
    run = PackRun(PackTask(0, 1, (configuration,), program_steps=configuration.steps), (0,))
    driver = Driver([run], setup, InlineExecutor(device, raises=True), callback=progress)
    driver.run()
    if driver.interrupted:
        raise KeyboardInterrupt
    assert run.outcomes is not None
    (outcome,), (curves,) = run.outcomes, run.curves()
    key = configuration.key(checked.data_digest, setup.version())
    return make_fit(
        key,
        configuration.to_dict(),
        row_of(key, configuration, outcome),
        torch.from_numpy(curves["train/loss"].copy()),
        joined_params(outcome.leaves, outcome.model_params),
        checked.prepared,
    )


def _check_device(device: str) -> None:
    """Raise `SpecError` for a device that torch does not know or cannot use here."""
    try:
        if torch.zeros((), device=device).is_meta:
            raise RuntimeError("tensors on the device meta have no values")
    except (
        AssertionError,
        AttributeError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        text = str(error).strip().splitlines()
        what = f"{device!r} is no device that torch can use here: {text[0] if text else type(error).__name__}"
        allowed = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise SpecError(what, key="device", allowed=allowed) from error
