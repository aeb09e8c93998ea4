"""``python -m tests.fuzz --specs 500 --inputs 300 --seed 0``: odd specs and odd arguments, and what became of them."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from tests.fuzz.inputs import run_inputs
from tests.fuzz.outcome import BAD, Outcome, table
from tests.fuzz.specs import run_specs


def main() -> int:
    """Print every input that is not as it should be, and the table; the exit status is 1 where there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--specs", type=int, default=500, help="how many specs")
    parser.add_argument("--inputs", type=int, default=300, help="how many calls")
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    parser.add_argument("--seed", type=int, default=0, help="of all of them")
    parser.add_argument("--verbose", action="store_true", help="print the others, too")
    given = parser.parse_args()
    logging.getLogger("vi_dist").setLevel(logging.ERROR)

    def told(index: int, what: object, outcome: Outcome) -> None:
        if outcome.kind in BAD:
            text = what.decode(errors="replace") if isinstance(what, bytes) else what
            print(
                f"--- {outcome.kind}: {given.seed} {index}\n{str(text)[:1500]}\n{outcome.detail}\n",
                flush=True,
            )
        elif given.verbose:
            print(f"{index} {outcome.kind} {outcome.seconds:.2f} {outcome.detail[:300]}", flush=True)

    with tempfile.TemporaryDirectory(prefix="vi_dist_fuzz_") as place:
        specs, inputs = (
            run(range(given.first, given.first + number), given.seed, Path(place, name), told)
            if number
            else []
            for name, number, run in (("specs", given.specs, run_specs), ("calls", given.inputs, run_inputs))
        )
    print(table({"specs": specs, "calls": inputs}))
    return int(any(outcome.kind in BAD for outcome in (*specs, *inputs)))


if __name__ == "__main__":
    sys.exit(main())
