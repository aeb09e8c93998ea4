"""The code inside a logged guide: MLflow runs this file when the model is loaded, nothing here imports it.

``mlflow.pyfunc.load_model("models:/<name>@champion").predict(None, params={"num_samples": 5, "seed": 1})``
returns posterior draws, one row each, with columns such as ``mu`` and ``beta[0]``.
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
        """``params["num_samples"]`` draws, the same for the same ``params["seed"]``; the input is unused."""
        # Here, not above: saving a model runs this file, and the writer has no use for torch.
        from vi_dist.tracking.draws_table import draws_table
        from vi_dist.vi.saved_guide import draws

        chosen = params or {}
        number, seed = int(chosen.get("num_samples", 1000)), int(chosen.get("seed", 0))
        return draws_table(draws(self.directory, number, seed))


set_model(GuideModel())
