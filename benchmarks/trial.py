"""The trial by reference: one sweep for every posterior, its winner chosen blind, then compared with the reference.

    python -m benchmarks.trial
    python -m benchmarks.trial --only kidiq wells --output vi-dist-out/trial
    python -m benchmarks.trial --peers

Every experiment that has a `reference.json` is swept under `benchmarks/trial.yaml`. Its winner is the configuration of
the highest ELBO; only then is the reference read. `mu` and `sd` are root mean squares over all reference quantities of
(mean - reference mean) / reference sd and of sd / reference sd - 1; `mu*` and `sd*` are the same with the winner's
draws weighted by Pareto-smoothed importance weights.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.tables import tell, text
from benchmarks.trial_marks import marks
from benchmarks.trial_moments import measured
from benchmarks.trial_reference import EXPERIMENTS, evidence, names, reference
from vi_dist import Experiment, SweepResult
from vi_dist.evaluation.moments import Moments, distance
from vi_dist.evaluation.verdict import Verdict
from vi_dist.report.judging import COMPARED, close

SPEC = Path(__file__).with_name("trial.yaml")
SHOWN = (
    *("posterior", "winner", "d", "elbo", "elbo_se", "full_rank", "khat", "mu", "sd", "mu*", "sd*"),
    *("verdict", "seconds"),
)

_NOTHING: dict[str, Any] = {
    **dict.fromkeys(("d", "elbo", "elbo_se", "iw_elbo", "full_rank", "full_rank_se", "khat"), math.nan),
    **dict.fromkeys(("mu", "sd", "mu*", "sd*", "khat_draws", "mu_change", "sd_change"), math.inf),
    "winner": "",
    "worst": "",
    "verdict": "nothing finished",
    "reasons": "",
}


def main() -> None:
    """Run the trial, print its tables and write them as Parquet."""
    arguments = _parsed()
    logging.getLogger("vi_dist").setLevel(logging.ERROR)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    rows, every = [], []
    for name in arguments.only or names():
        found = trial(name, output, arguments.spec, arguments.time_limit, arguments.reuse)
        rows.append(found[0])
        every += found[1]
        tell(rows, 1, SHOWN)
    pd.DataFrame(rows).to_parquet(output / "trial.parquet")
    pd.DataFrame(every).to_parquet(output / "configurations.parquet")
    print(
        f"\n{text(rows, SHOWN)}\n\n{marks(rows)}\n\n{output}/trial.parquet, {output}/configurations.parquet"
    )
    if arguments.peers:
        from benchmarks.trial_peers.__main__ import run

        run([row["posterior"] for row in rows], table=str(output / "peers.parquet"))


def trial(
    name: str,
    output: Path,
    spec: str | Path = SPEC,
    time_limit: float | None = None,
    reuse: bool = False,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One posterior's row of the table, and a row for every configuration that finished."""
    began = time.perf_counter()
    kept = sorted((output / "sweeps").glob(f"{name}-2*")) if reuse else []
    result = SweepResult.load(kept[-1]) if kept else _swept(name, output, Path(spec), time_limit)
    seconds = result.timings["wall"] if kept else time.perf_counter() - began
    try:
        winner, verdict = result.best(), result.verdict()
    except LookupError:
        return {
            **_NOTHING,
            "posterior": name,
            "seconds": seconds,
            "configurations": len(result.dataframe()),
        }, []
    truth, known = reference(name), evidence(name)
    best = measured(winner, truth, 10_000)
    row = {
        "posterior": name,
        "d": winner.ready().layout.size,
        "winner": winner.name,
        "elbo": winner.elbo,
        "elbo_se": winner.elbo_se,
        "iw_elbo": winner.iw_elbo,
        "full_rank": known.get("full_rank", math.nan),
        "full_rank_se": known.get("full_rank_se", math.nan),
        "khat": winner.khat,
        **best.to_dict(),
        "verdict": verdict.word,
        "reasons": " ".join(verdict.reasons),
        "seconds": seconds,
        "configurations": len(result.dataframe()),
    }
    return row, _every(name, result, truth, winner.key, verdict)


def _swept(name: str, output: Path, spec: Path, time_limit: float | None) -> SweepResult:
    changes: dict[str, Any] = {**yaml.safe_load(spec.read_text()), "output_dir": str(output / "sweeps")}
    if time_limit is not None:
        changes["budget"] = {"minutes": time_limit / 60}
    kept = ("name", "model", "data")
    own = yaml.safe_load((EXPERIMENTS / name / "sweep.yaml").read_text())
    dropped = {key: None for key in own if key not in (*kept, *changes)}
    return Experiment.from_spec(EXPERIMENTS / name / "sweep.yaml", {**dropped, **changes}).sweep()


def _every(
    name: str, result: SweepResult, truth: Moments, winner: str, verdict: Verdict
) -> list[dict[str, Any]]:
    """What is known of every configuration without the reference, and how far off it is: thresholds' material."""
    frame = result.dataframe()
    frame = frame[frame["status"].isin(("finished", "stopped")) & frame["elbo"].map(math.isfinite)]
    found = {}
    for key in frame["key"]:
        try:
            found[key] = measured(result.get(key), truth, 2_000)
        except (ValueError, ArithmeticError):
            continue  # draws that are not finite
    rows = []
    for row in frame[frame["key"].isin(found)].to_dict("records"):
        kept = {
            k: row[k]
            for k in ("key", "name", "status", "rank", "elbo", "elbo_se", "iw_elbo", "khat", "seconds")
        }
        worse = frame[frame["rank"] > row["rank"]]
        others = [found[key].own for key in close(row, worse)["key"].head(COMPARED) if key in found]
        apart = [distance(other, found[row["key"]].own) for other in others]
        rows.append(
            {
                "posterior": name,
                **kept,
                **found[row["key"]].to_dict(),
                "apart": max((max(one.mean, one.sd) for one in apart), default=math.nan),
                "samples": result.spec.evaluation.samples,
                "winner": row["key"] == winner,
                "verdict": verdict.word if row["key"] == winner else "",
            }
        )
    return rows


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these experiments; default: all")
    parser.add_argument("--spec", default=str(SPEC), help="the sweep; default: benchmarks/trial.yaml")
    parser.add_argument("--output", default="vi-dist-out/trial", help="folder of sweeps and tables")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="of one posterior's sweep")
    parser.add_argument("--reuse", action="store_true", help="sweeps that the output folder holds already")
    parser.add_argument("--peers", action="store_true", help="PyMC and NumPyro at their defaults, beside it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
