"""The model behind a logged guide: MLflow imports this module by its name and hands it the folder of the saved fit.

Nothing of what was logged is run: the code is that of the installed ``vi_dist``, the folder is data.

``mlflow.pyfunc.load_model("models:/<name>@champion").predict(None, params={"num_samples": 5, "seed": 1})``
returns posterior draws, one row each, with columns such as ``mu`` and ``beta[0]``. It predicts nothing of new data.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vi_dist.errors import SpecError
from vi_dist.tracking.draws_table import draws_table


class GuideModel:
    """Draws from the guide of a saved fit.

    Args:
        directory: that `Fit.save` wrote.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)

    def predict(
        self, model_input: pd.DataFrame | None, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """``params["num_samples"]`` draws, the same for the same ``params["seed"]``.

        Raises:
            ValueError: an input with columns or rows, which would change nothing, or fewer draws than one.
            DamagedFile: a file of the fit is not what was written.
        """
        _refuse_input(model_input)
        # Here, not above: saving a model imports this module, and the writer has no use for torch.
        from vi_dist.vi.saved_guide import draws

        chosen = params or {}
        number, seed = int(chosen.get("num_samples", 1000)), int(chosen.get("seed", 0))
        if number < 1:
            raise ValueError(f"{number} draws were asked for by num_samples; at least 1 is needed")
        return draws_table(draws(self.directory, number, seed))


def _load_pyfunc(directory: str) -> GuideModel:
    """What MLflow calls with the folder of the logged data.

    Raises `SpecError` for a folder that holds no saved fit.
    """
    if not (Path(directory) / "guide.json").is_file():
        raise SpecError("there is no saved fit here: no guide.json", path=directory)
    return GuideModel(directory)


def _refuse_input(given: Any) -> None:
    """Refuse data: the model holds draws of the posterior that was fitted, and no likelihood to apply to new rows."""
    if given is None or (
        hasattr(given, "__len__") and not len(given) and not len(getattr(given, "columns", ()))
    ):
        return
    what = f"{len(given)} rows" if hasattr(given, "__len__") else repr(given)
    if len(names := list(getattr(given, "columns", ()))):
        what += f" with columns {', '.join(map(str, names[:5]))}"
    raise ValueError(
        f"this model was given {what}, which it has no use for: it draws from the stored posterior of the data that it "
        "was fitted to. Call predict(None, params={'num_samples': 1000}) for draws; for predictions of new data load "
        "the fit in Python with a model of them, Fit.load(directory, build, data).predict(n)"
    )
