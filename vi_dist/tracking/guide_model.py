"""The code inside a logged guide: MLflow runs this file when the model is loaded, nothing here imports it.

``mlflow.pyfunc.load_model("models:/<name>@champion").predict(None, params={"num_samples": 5, "seed": 1})``
returns posterior draws, one row each, with columns such as ``mu`` and ``beta[0]``. It predicts nothing of new data.
"""

from __future__ import annotations

import warnings
from typing import Any

import pandas as pd

with warnings.catch_warnings():
    # MLflow warns about type hints of its own when this is imported for the first time.
    warnings.simplefilter("ignore")
    from mlflow.models import set_model
    from mlflow.pyfunc.model import PythonModel, PythonModelContext


class GuideModel(PythonModel):
    """Draws from the guide of a saved fit."""

    def load_context(self, context: PythonModelContext) -> None:
        """Remember where the saved fit lies."""
        self.directory = context.artifacts["guide"]

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """``params["num_samples"]`` draws, the same for the same ``params["seed"]``.

        Raises `ValueError` for an input with columns or rows, which would change nothing.
        """
        _refuse_input(model_input)
        # Here, not above: saving a model runs this file, and the writer has no use for torch.
        from vi_dist.tracking.draws_table import draws_table
        from vi_dist.vi.saved_guide import draws

        chosen = params or {}
        number, seed = int(chosen.get("num_samples", 1000)), int(chosen.get("seed", 0))
        if number < 1:
            raise ValueError(f"{number} draws were asked for by num_samples; at least 1 is needed")
        return draws_table(draws(self.directory, number, seed))


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


set_model(GuideModel())
