"""A mistake in a spec is one error: the file, the key path, the value, and what is allowed or the cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vi_dist.errors import SpecError
from vi_dist.sweep.catalogue import Catalogue
from vi_dist.sweep.dimension import DIMENSIONS
from vi_dist.sweep.space import resolve
from vi_dist.sweep.spec import SweepSpec, load_spec

GUIDES = ("mean_field", "full_rank", "low_rank", "student_t", "nsf")
DIVERGENCES = ("kl_reverse", "kl_forward", "amari", "total_variation")
KEYS = tuple(SweepSpec.model_fields)
NAMES = tuple(DIMENSIONS)
ENTRY = ("a name, or {name: {argument: value}}",)
VALUES = ("a value, a list of values or {low, high, log}",)
COUNT = ("a whole number, at least 1 and at most 100000",)
STEPS = ("a whole number, at least 1 and at most 10000000",)
SAMPLES = ("a whole number, at least 1 and at most 1000000",)
RANGE = ("low", "high", "log")
RATE = ("a number, at least 1e-30 and at most 1e30",)
TIME = ("a number, greater than 0 and at most 1000000000",)
SEED = ("a whole number, at least 0 and at most 4294967295",)
GUIDE_LIST = "[mean_field, full_rank, {low_rank: {rank: [2, 4]}}]"
RATE_RANGE = "{low: 0.001, high: 0.1, log: true}"
TAIL = "executor: ray"

Row = tuple[str, str, str | None, tuple[object, ...], str]

# what to replace in the good spec, by what, and then: key, allowed, a part of the message
KEYS_AND_TYPES: list[Row] = [
    ("search:", "serach:", "serach", KEYS, "unknown key 'serach'; did you mean search?"),
    (TAIL, "batch_norm: 1", "batch_norm", KEYS, "unknown key 'batch_norm'"),
    (TAIL, "epochs: 3", "epochs", KEYS, "did you mean steps?"),
    (TAIL, "guide: full_rank", "guide", KEYS, "it belongs in the space; write space: {guide: ['full_rank']}"),
    (TAIL, "learning_rate: [0.1, 0.2]", "learning_rate", KEYS, "write space: {learning_rate: [0.1, 0.2]}"),
    (TAIL, "12: 3", "12", KEYS, "unknown key '12'"),
    ("name: german_credit\n", "", "name", ("text",), "the spec has no name; add name: my_sweep"),
    ("name: german_credit", "name: 12", "name", ("text",), "12 is not text; put it in quotes"),
    ("name: german_credit", "name: no", "name", ("text",), "false is a truth value"),
    ("name: german_credit", "name: [a]", "name", ("text",), "['a'] is a list, and one value belongs here"),
    ("name: german_credit", "name: ' '", "name", ("text",), "the text is empty"),
    ("steps: 2000", "steps: many", "steps", STEPS, "'many' is not a number"),
    ("steps: 2000", "steps: '2000'", "steps", STEPS, "'2000' is text; remove the quotes"),
    ("steps: 2000", "steps: -5", "steps", STEPS, "-5 is too small"),
    ("steps: 2000", "steps: 0", "steps", STEPS, "0 is too small"),
    ("steps: 2000", "steps: 1.5", "steps", STEPS, "1.5 is not a whole number"),
    ("steps: 2000", "steps: yes", "steps", STEPS, "true is a truth value (YAML reads yes, no, on and off"),
    ("steps: 2000", "steps:", "steps", STEPS, "nothing stands here; give a value, or delete the key"),
    ("steps: 2000", "steps: {a: 1}", "steps", STEPS, "is a mapping, and one value belongs here"),
    ("steps: 2000", "steps: .inf", "steps", STEPS, "inf is not a finite number"),
    ("num_samples: 8", "num_samples: 0", "num_samples", SAMPLES, "0 is too small"),
    ("seed: 0\n", "seed: -1\n", "seed", SEED, "-1 is too small"),
    ("seed: 0\n", "seed: 5000000000\n", "seed", SEED, "5000000000 is too large"),
    (
        "search: random",
        "search: rnd",
        "search",
        ("grid", "random", "qmc", "tpe"),
        "unknown search 'rnd'; did you mean random?",
    ),
    ("search: random", "search: 3", "search", ("grid", "random", "qmc", "tpe"), "3 is not a search"),
    (TAIL, "executor: spark", "executor", ("ray", "inline"), "unknown executor 'spark'"),
    ("dtype: float32", "dtype: float16", "dtype", ("float32", "float64"), "unknown dtype 'float16'"),
    ("compile: auto", "compile: yes", "compile", ("auto", "always", "never"), "true is not a compile mode"),
    ("pack_size: auto", "pack_size: 0", "pack_size", ("auto", *COUNT), "0 is too small"),
    ("pack_size: auto", "pack_size: big", "pack_size", ("auto", *COUNT), "'big' is not a number"),
    ("{samples: 4096}", "4096", "evaluation", ("samples",), "4096 is not a mapping"),
    ("{samples: 4096}", "{sample: 1}", "evaluation.sample", ("samples",), "did you mean samples?"),
    ("{samples: 4096}", "{steps: 1}", "evaluation.steps", ("samples",), "it belongs at the top level"),
    (
        "{samples: 4096}",
        "{samples: 1}",
        "evaluation.samples",
        ("a whole number, at least 2 and at most 1000000",),
        "1 is too small",
    ),
    (
        TAIL,
        "cpus_per_actor: 0",
        "cpus_per_actor",
        ("a number, greater than 0 and at most 1024",),
        "0 is too small",
    ),
    (
        TAIL,
        "gpus_per_actor: -1",
        "gpus_per_actor",
        ("a number, at least 0 and at most 1024",),
        "-1 is too small",
    ),
    (TAIL, "max_actors: none", "max_actors", COUNT, "'none' is not a number"),
    (TAIL, "tracking_uri: 5", "tracking_uri", ("text",), "5 is not text"),
    (TAIL, "halving: 3", "halving", ("eta", "min_steps"), "3 is not a mapping"),
    (
        TAIL,
        "halving: {eta: 1}",
        "halving.eta",
        ("a whole number, at least 2 and at most 100000",),
        "1 is too small",
    ),
    (TAIL, "halving: {min_step: 1}", "halving.min_step", ("eta", "min_steps"), "did you mean min_steps?"),
    (TAIL, "halving: {min_steps: 0}", "halving.min_steps", STEPS, "0 is too small"),
    (
        TAIL,
        "budget: {}",
        "budget.minutes",
        ("a number, greater than 0",),
        "the spec has no budget.minutes; add budget: {minutes: 30}",
    ),
    (TAIL, "budget: {minutes: 0}", "budget.minutes", TIME, "0 is too small"),
    (TAIL, "budget: 30", "budget", ("minutes",), "30 is not a mapping"),
    (TAIL, "time_limit: long", "time_limit", TIME, "'long' is not a number"),
]
PATHS: list[Row] = [
    ("model.py:build", "model.py", "model", ("FILE.py:FUNCTION",), "write for example model.py:build"),
    ("model.py:build", "'model.py:'", "model", ("FILE.py:FUNCTION",), "write for example model.py:build"),
    ("model.py:build", "model.py:a-b", "model", ("FILE.py:FUNCTION",), "'a-b' is not a function's name"),
    ("model.py:build", "modle.py:build", "model", ("model.py:build",), "there is no file"),
    ("model.py:build", "here/model.py:build", "model", (), "there is no folder"),
    (
        "model: model.py:build\n",
        "",
        "model",
        ("FILE.py:FUNCTION",),
        "write for example model: model.py:build",
    ),
    ("german_credit.npz", "german.npz", "data", ("german_credit.npz",), "there is no file"),
    (
        "german_credit.npz",
        "[]",
        "data",
        ("a path", "a list of paths"),
        "the list is empty; name at least one",
    ),
    (
        "name: german_credit",
        "name: a/b",
        "name",
        (),
        "cannot name files and experiments; write for example a_b",
    ),
]
SPACES: list[Row] = [
    ("  guide:", "  giude:", "space.giude", NAMES, "unknown dimension 'giude'; did you mean guide?"),
    ("  guide:", "  lr: 1\n  guide:", "space.lr", NAMES, "did you mean learning_rate?"),
    ("  guide:", "  dtype: float64\n  guide:", "space.dtype", NAMES, "it belongs at the top level"),
    (GUIDE_LIST, "[]", "space.guide", ENTRY, "the list is empty; give at least one value"),
    (GUIDE_LIST, "", "space.guide", ENTRY, "nothing stands here"),
    (GUIDE_LIST, "[mean_field, 3]", "space.guide[1]", ENTRY, "3 is not an entry"),
    (GUIDE_LIST, "[mean_field, [full_rank]]", "space.guide[1]", ENTRY, "['full_rank'] is not an entry"),
    (GUIDE_LIST, "{low: 1, high: 2}", "space.guide", ENTRY, "a range is for numbers; list the names"),
    (GUIDE_LIST, "[{low: 1, high: 2}]", "space.guide[0]", ENTRY, "a range stands alone, not in a list"),
    (GUIDE_LIST, "[{low_rank: 4}]", "space.guide[0].low_rank", ENTRY, "write {low_rank: {argument: 4}}"),
    (GUIDE_LIST, "[{a: {b: 1}, c: {d: 1}}]", "space.guide[0]", ENTRY, "here are a, c; give each an item"),
    (GUIDE_LIST, "\n  - low_rank:\n    rank: 4", "space.guide[0]", ENTRY, "write {low_rank: {rank: 4}}"),
    (GUIDE_LIST, "[mean_field, full_rank, mean_field]", "space.guide[2]", (), "the same as space.guide[0]"),
    ("[2, 4]", "[]", "space.guide[2].low_rank.rank", VALUES, "the list is empty"),
    ("[2, 4]", "[[2]]", "space.guide[2].low_rank.rank[0]", VALUES, "[2] is not one value"),
    (
        "[2, 4]",
        "[2, 4, 2]",
        "space.guide[2].low_rank.rank[2]",
        (),
        "the same as space.guide[2].low_rank.rank[0]",
    ),
    ("[0, 1, 2]", "[0, 1, 0]", "space.seed[2]", (), "the same as space.seed[0]; delete one"),
    ("[0, 1, 2]", "[0, yes]", "space.seed[1]", SEED, "true is a truth value"),
    ("[0, 1, 2]", "zero", "space.seed", SEED, "'zero' is not a number"),
    ("[0, 1, 2]", "[0, {low: 1, high: 2}]", "space.seed[1]", SEED, "a range stands alone"),
    (RATE_RANGE, "[0.1, fast]", "space.learning_rate[1]", RATE, "'fast' is not a number"),
    (RATE_RANGE, "[0.1, 0]", "space.learning_rate[1]", RATE, "0 is too small"),
    (RATE_RANGE, "[0.1, .nan]", "space.learning_rate[1]", RATE, "nan is not a finite number"),
    (
        RATE_RANGE,
        "{low: 0.1, high: 0.1}",
        "space.learning_rate",
        ("low < high",),
        "low is 0.1 and high is 0.1",
    ),
    (
        RATE_RANGE,
        "{low: 0.2, high: 0.1}",
        "space.learning_rate",
        ("low < high",),
        "low is 0.2 and high is 0.1",
    ),
    (RATE_RANGE, "{low: 0, high: 0.1, log: true}", "space.learning_rate.low", (), "cannot start at 0"),
    (RATE_RANGE, "{low: -1, high: 0.1}", "space.learning_rate.low", RATE, "-1 is too small"),
    (RATE_RANGE, "{low: 0.1}", "space.learning_rate.high", RANGE, "the range has no high"),
    (RATE_RANGE, "{low: 0.1, max: 1}", "space.learning_rate.max", RANGE, "did you mean high?"),
    (RATE_RANGE, "{low: x, high: 1}", "space.learning_rate.low", ("a number",), "'x' is not a number"),
    (
        RATE_RANGE,
        "{low: 0.1, high: 1, log: 1}",
        "space.learning_rate.log",
        ("true or false",),
        "1 is not true or",
    ),
    ("[0, 1, 2]", "{low: 0, high: 1.5}", "space.seed.high", SEED, "1.5 is not a whole number"),
]
ENTRIES: list[Row] = [
    (
        "mean_field",
        "mean-feild",
        "space.guide[0]",
        GUIDES,
        "unknown guide 'mean-feild'; did you mean mean_field?",
    ),
    ("kl_forward", "kl", "space.divergence[1]", DIVERGENCES, "did you mean kl_reverse or kl_forward?"),
    ("kl_forward", "wasserstein", "space.divergence[1]", DIVERGENCES, "unknown divergence 'wasserstein'"),
    (
        "[auto]",
        "[auto, reprm]",
        "space.estimator[1]",
        ("auto", "reparam", "score", "stl", "vr_iwae"),
        "unknown estimator 'reprm'; did you mean reparam?",
    ),
    ("optimizer: adam", "optimizer: adamm", "optimizer", ("adam", "sgd"), "did you mean adam?"),
    ("optimizer: adam", "schedule: cos", "schedule", ("constant", "cosine"), "did you mean cosine?"),
    (
        "optimizer: adam",
        "optimizer: [adam, sgd]",
        "optimizer",
        ("one entry",),
        "write space: {optimizer: [...]}",
    ),
    ("optimizer: adam", "optimizer: {adam: {beta1: 2}}", "optimizer.adam.beta1", (), "2 is too large"),
    (
        "optimizer: adam",
        "optimizer: {adam: {beta1: [0, 1]}}",
        "optimizer.adam.beta1",
        ("one value",),
        "in the space",
    ),
    (
        "{amari: {alpha: 0.5}}",
        "amari(0.5)",
        "space.divergence[2]",
        DIVERGENCES,
        "write {amari: {alpha: 0.5}}",
    ),
    (
        "{amari: {alpha: 0.5}}",
        "'amari(alpha=2)'",
        "space.divergence[2]",
        DIVERGENCES,
        "write {amari: {alpha: 2}}",
    ),
    (
        "{amari: {alpha: 0.5}}",
        "{amari: {alfa: 1}}",
        "space.divergence[2].amari.alfa",
        ("alpha",),
        "unknown argument of divergence amari: 'alfa'; did you mean alpha?",
    ),
    (
        "{amari: {alpha: 0.5}}",
        "amari",
        "space.divergence[2].amari.alpha",
        ("alpha",),
        "needs alpha; write {amari:",
    ),
    (
        "{amari: {alpha: 0.5}}",
        "{amari: {alpha: x}}",
        "space.divergence[2].amari.alpha",
        ("a number",),
        "'x' is not",
    ),
    (
        "{amari: {alpha: 0.5}}",
        "{total_variation: {a: 1}}",
        "space.divergence[2].total_variation.a",
        (),
        "takes no",
    ),
    ("[2, 4]", "[2, 0]", "space.guide[2].low_rank.rank[1]", (), "0 is too small"),
    (
        "[2, 4]",
        "65",
        "space.guide[2].low_rank.rank",
        ("a whole number, at least 1 and at most 64",),
        "65 is too large",
    ),
    ("[2, 4]", "2.5", "space.guide[2].low_rank.rank", (), "2.5 is not a whole number"),
    ("[2, 4]", "{low: 2, high: 99}", "space.guide[2].low_rank.rank.high", (), "99 is too large"),
    (
        "low_rank: {rank: [2, 4]}",
        "low_rank",
        "space.guide[2].low_rank.rank",
        ("rank",),
        "(columns of the factor)",
    ),
    (
        "low_rank: {rank: [2, 4]}",
        "nsf: {activation: {low: 1, high: 2}}",
        "space.guide[2].nsf.activation",
        ("text",),
        "a range is for numbers; list the values",
    ),
    (
        "low_rank: {rank: [2, 4]}",
        "nsf: {residual: 1}",
        "space.guide[2].nsf.residual",
        ("true or false",),
        "1 is not",
    ),
    (
        "low_rank: {rank: [2, 4]}",
        "nsf: {activation: yes}",
        "space.guide[2].nsf.activation",
        ("text",),
        "quotes",
    ),
    (
        "low_rank: {rank: [2, 4]}",
        "student_t: {df: 2}",
        "space.guide[2].student_t.df",
        ("a number, greater than 2",),
        "2 is too small",
    ),
]
SEARCHES: list[Row] = [
    (
        "search: random",
        "search: grid",
        "space.learning_rate",
        (),
        "for example [0.001, 0.01, 0.1], or write search: ran",
    ),
    ("configurations: 32\n", "", "configurations", COUNT, "write for example configurations: 256"),
    ("configurations: 32", "configurations: -1", "configurations", COUNT, "-1 is too small"),
]


def fault(path: Path, catalogue: Catalogue) -> SpecError:
    with pytest.raises(SpecError) as caught:
        resolve(load_spec(path), catalogue)
    return caught.value


@pytest.mark.parametrize(
    ("old", "new", "key", "allowed", "part"), KEYS_AND_TYPES + PATHS + SPACES + ENTRIES + SEARCHES
)
def test_one_mistake_is_one_error(
    old: str,
    new: str,
    key: str,
    allowed: tuple[object, ...],
    part: str,
    german_credit: str,
    write: Callable[[str], Path],
    catalogue: Catalogue,
) -> None:
    assert german_credit.count(old) >= 1
    path = write(german_credit.replace(old, new, 1))
    error = fault(path, catalogue)
    assert (error.path, error.key) == (str(path), key)
    assert part in error.message
    assert not allowed or error.allowed == allowed
    assert str(error).startswith(f"{path}: {key}: ")


FILES: list[tuple[str, str | None, str]] = [
    ("", None, "the file is empty; a spec is keys with values"),
    ("# nothing\n", None, "the file is empty"),
    ("- a\n- b\n", None, "['a', 'b'] is not a mapping"),
    ("sweep", None, "'sweep' is not a mapping"),
    (
        "name: a: b\n",
        None,
        "line 1, column 8: not YAML: mapping values are not allowed here at 'name: a: b'; put",
    ),
    (
        "name: a\nspace:\n\tseed: 1\n",
        None,
        "line 3, column 1: not YAML: found character '\\t' that cannot start",
    ),
    ("name: [a\nspace: b\n", None, "line 2, column 6: not YAML: expected ',' or ']'"),
    ("name: a\nsteps: 1\nname: b\n", "name", "the key stands twice, on lines 1 and 3; keep one"),
    (
        "name: a\nspace: {seed: 1, seed: 2}\n",
        "space.seed",
        "the key stands twice, on lines 2 and 2; keep one",
    ),
    ("name: a\nspace:\n  guide: [{x: {y: 1, y: 2}}]\n", "space.guide[0].x.y", "the key stands twice"),
    ("name: a\nspace: &here\n  guide: *here\n", "space.guide", "line 2: an alias refers to what contains it"),
    ("name: a\nspace: {[1]: 2}\n", "space", "line 2: a key must be text"),
    (
        "name: !!python/object:os.system a\n",
        None,
        "line 1, column 7: not YAML: could not determine a constructor",
    ),
    ("name: 2020-13-45\n", None, "a value that YAML cannot read: month must be in 1..12; put it in quotes"),
    ("name: a\nsteps: \x07\n", None, "line 2: a character that YAML does not allow (#x7)"),
    ("name: a\n---\nname: b\n", None, "line 2, column 1: not YAML: but found another document"),
    ("name: a\n", "space", "the spec has no space; add space: {guide: [mean_field, full_rank]}"),
    ("name: a\nspace:\n", "space", "the space is empty; name what to compare"),
    ("name: a\nspace: {}\n", "space", "the space is empty; name what to compare"),
    (
        "name: a\nspace: [guide]\n",
        "space",
        "['guide'] is not a mapping of dimensions; write for example space:",
    ),
]


@pytest.mark.parametrize(("text", "key", "part"), FILES)
def test_a_file_that_is_no_spec(text: str, key: str | None, part: str, write: Callable[[str], Path]) -> None:
    path = write(text)
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert (caught.value.path, caught.value.key) == (str(path), key)
    assert part in caught.value.message


def test_a_file_that_is_not_there_lists_its_neighbours(write: Callable[[str], Path]) -> None:
    there = write("name: a\n")
    with pytest.raises(SpecError, match="no such file") as caught:
        load_spec(there.with_name("swep.yaml"))
    assert caught.value.path == str(there.with_name("swep.yaml"))
    assert caught.value.allowed == (str(there),)
    with pytest.raises(SpecError, match="a folder, not a file") as caught:
        load_spec(there.parent)
    assert caught.value.allowed == (str(there),)
    with pytest.raises(SpecError, match="there is no folder"):
        load_spec(there.parent / "nowhere" / "sweep.yaml")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(SpecError, match="not a text file") as caught:
        load_spec(path)
    assert caught.value.path == str(path)


def test_a_misspelt_key_is_reported_before_the_one_it_should_have_been(write: Callable[[str], Path]) -> None:
    with pytest.raises(SpecError, match="did you mean name?") as caught:
        load_spec(write("nmae: a\nsteps: many\n"))
    assert caught.value.key == "nmae"


def test_a_combination_that_cannot_work_is_refused_where_it_stands(
    german_credit: str, write: Callable[[str], Path], catalogue: Catalogue
) -> None:
    text = german_credit.replace("[auto]", "[auto, stl]").replace("kl_forward", "total_variation")
    error = fault(write(text), catalogue)
    assert error.key == "space.divergence[1]"
    assert error.allowed == ("reparam",)
    assert "stl has no gradient under a kinked divergence" in error.message


@pytest.mark.parametrize("search", ["random", "grid"])
def test_more_configurations_than_there_are(
    search: str, german_credit: str, write: Callable[[str], Path], catalogue: Catalogue
) -> None:
    text = german_credit.replace(RATE_RANGE, "[0.01, 0.1]").replace("search: random", f"search: {search}")
    for asked in (73, 1000):
        error = fault(write(text.replace("configurations: 32", f"configurations: {asked}")), catalogue)
        assert error.key == "configurations"
        assert f"{asked} configurations are asked for and the space holds 72" in error.message
        assert error.allowed == ("a whole number, at least 1 and at most 72",)
    assert (
        len(resolve(load_spec(write(text.replace("configurations: 32", "configurations: 72"))), catalogue))
        == 72
    )


def test_an_override_says_that_it_was_one(
    german_credit: str, write: Callable[[str], Path], catalogue: Catalogue
) -> None:
    path = write(german_credit)
    with pytest.raises(SpecError, match="-1 is too small \\(set by an override\\)") as caught:
        load_spec(path, {"steps": -1})
    assert (caught.value.path, caught.value.key) == (str(path), "steps")
    with pytest.raises(SpecError, match="unknown guide 'nope' \\(set by an override\\)") as caught:
        resolve(load_spec(path, {"space.guide": ["nope"]}), catalogue)
    assert caught.value.key == "space.guide[0]"
    with pytest.raises(SpecError, match="no folder") as caught:
        load_spec(path, {"model": "x/model.py:build"})
    assert caught.value.key == "model"
    with pytest.raises(
        SpecError, match=r"which has no keys; lists and values are replaced whole: space.seed=\.\.\."
    ):
        load_spec(path, {"space.seed.low": 1})
