r"""Draw the conditions of synthetic images from those of real ones.

    python -m ddpm_jax.cohort --like shards --count 1000 --out cohort.csv
    python -m ddpm_jax.cohort --like shards --count 1000 --out cohort.csv \
        --balance view,sex
    python -m ddpm_jax.cohort --like shards --out cohort.csv --balance view,sex --fill

A row an image, a column a field, and a seed: `python -m ddpm_jax.sample --conditions
cohort.csv` makes the images. The first line draws rows as the data are distributed, the
second as many of each view and sex, the third what the data lack of that. Beside
cohort.csv are cohort.cells.csv, which says where there are too few real images to trust
a model, and cohort.png (cohort.parquet has cohort.parquet.cells.csv and
cohort.parquet.png). No row is what fewer than 11 patients have; combinations that
do not occur are never drawn. See docs/cohorts.md.
"""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

from ddpm_jax import command_line, pictures
from ddpm_jax.conditions import cells as counting
from ddpm_jax.conditions import comparison
from ddpm_jax.conditions.cells import Cells, Line
from ddpm_jax.conditions.cohort import Joint
from ddpm_jax.conditions.schema import Conditions, Schema
from ddpm_jax.conditions.small_cells import LEAST
from ddpm_jax.data import records

FLAGS = command_line.new_flags()
LIKE = flags.DEFINE_string(
    "like", None, "A data set of `data_prep.convert`.", flag_values=FLAGS
)
SPLIT = flags.DEFINE_string(
    "split", "train", "The split of it to draw from.", flag_values=FLAGS
)
WHERE = flags.DEFINE_list(
    "where",
    [],
    "Draw from these records alone: view=AP, or view=AP,sex=F.",
    flag_values=FLAGS,
)
FIELDS = flags.DEFINE_list(
    "fields",
    [],
    "Fields to draw, for a model that knows no others; default: all.",
    flag_values=FLAGS,
)
KNOWN = flags.DEFINE_list(
    "known",
    ["all"],
    "Fields that are known in every row; none: not known as often as in the data.",
    flag_values=FLAGS,
)
BALANCE = flags.DEFINE_list(
    "balance",
    [],
    "Categorical fields; as many rows of each combination of their values.",
    flag_values=FLAGS,
)
FILL = flags.DEFINE_bool(
    "fill",
    False,
    "With --balance: draw what real and synthetic images together need to be balanced; "
    "with --count, the best that this many can do.",
    flag_values=FLAGS,
)
COUNT = flags.DEFINE_integer(
    "count", None, "Rows to draw.", lower_bound=1, flag_values=FLAGS
)
ENOUGH = flags.DEFINE_integer(
    "enough",
    50,
    "Real images of a combination from which on a model is trusted with it.",
    lower_bound=LEAST,
    flag_values=FLAGS,
)
SEED = flags.DEFINE_integer(
    "seed", 0, "Of all that is random here.", lower_bound=0, flag_values=FLAGS
)
OUT = flags.DEFINE_string(
    "out", None, "The file to write, .csv or .parquet.", flag_values=FLAGS
)
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace --out and what is beside it.", flag_values=FLAGS
)

COLOURS = {counting.ENOUGH: pictures.PAIR[1], counting.FEW: "#e08a1e"}
MOST_LINES = 40


class Real(NamedTuple):
    """The records drawn from: `patients` int [n] says whose each is."""

    schema: Schema
    conditions: Conditions
    patients: np.ndarray


def main():
    command_line.require(FLAGS, "like", "out")
    out = check_out(Path(OUT.value))
    if FILL.value and not BALANCE.value:
        raise ValueError("--fill: expected --balance with the fields to balance.")
    if COUNT.value is None and not FILL.value:
        raise ValueError("--count: needed, or --balance with --fill.")
    real = read()
    rng = np.random.default_rng(SEED.value)
    joint = Joint.make(real.schema, real.conditions, real.patients, known_fields(real))
    say_lost(joint.lost, len(real.patients))
    drawn, lines = draw(real, joint, rng)
    seeds = rng.choice(2**31, len(next(iter(drawn.values()))), replace=False)
    show_cells(lines)
    rows = real.schema.decode(drawn)
    compared = compare(real, rows)
    print("\n" + comparison.table(compared, names()))
    publish(out[1], lambda path: counting.write(path, lines, real.schema))
    publish(out[2], lambda path: picture(path, compared, lines, real, len(rows)))
    publish(out[0], lambda path: write_rows(path, rows, seeds, real.schema))
    print(f"\n{len(rows)} rows in {out[0]}; see {out[2]} and {out[1]}")


def draw(real: Real, joint: Joint, rng) -> tuple[Conditions, list[Line]]:
    """The conditions of the cohort, and what is to be said of its cells."""
    if not BALANCE.value:
        drawn = joint.draw(rng, [COUNT.value])
        return drawn, counting.pairs(*real, drawn, ENOUGH.value)
    balanced = categorical("--balance", BALANCE.value, real.schema)
    cells = Cells.count(*real, balanced)
    group = joint.group(balanced, cells.codes)
    possible = np.isin(np.arange(len(cells)), group[joint.weights > 0])
    counts = cells.quotas(possible, COUNT.value, FILL.value)
    if FILL.value and cells.some_small:
        print(f"a cell has under {LEAST} images: real ones count to the nearest 10")
    drawn = joint.draw(rng, counts, group)
    lines = cells.lines(ENOUGH.value, drawn)
    if lines is None:
        raise ValueError(
            f"--balance {','.join(balanced)}: so few records that combinations of "
            f"fewer than {LEAST} would be given away; expected fewer fields."
        )
    return drawn, lines


def check_out(path: Path) -> tuple[Path, Path, Path]:
    """The cohort, its cells and its picture; ValueError where they cannot be."""
    kind = path.suffix.lower()
    if kind not in (".csv", ".parquet") or path.is_dir():
        raise ValueError(f"--out {path}: expected a file, .csv or .parquet.")
    stem = path.stem if kind == ".csv" else path.name
    beside = (path.with_name(stem + end) for end in (".cells.csv", ".png"))
    paths = path, *beside
    for one in paths:
        if one.exists() and not OVERWRITE.value:
            raise ValueError(
                f"{one}: there already; expected another --out or --overwrite."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"--out {path}: cannot write to {path.parent}.")
    return paths


def read() -> Real:
    """The conditions of the records of --split that --where asks for."""
    schema = records.check_counts(LIKE.value, SPLIT.value).schema
    fields = schema.select(FIELDS.value or schema.names)
    conditions, patients = records.read_conditions(LIKE.value, SPLIT.value, schema)
    keep = np.ones(len(patients), bool)
    for text in WHERE.value:
        name, _, value = text.partition("=")
        categorical("--where", [name], schema)
        code = schema[name].encode(value)
        if not code:
            raise ValueError(
                f"--where {text}: expected {name}= and one of "
                f"{', '.join(schema[name].values)}."
            )
        keep &= conditions[name] == code
    if keep.sum() < LEAST:
        raise ValueError(
            f"{LIKE.value}, split {SPLIT.value}: fewer than {LEAST} records"
            + (f" where {', '.join(WHERE.value)}." if WHERE.value else ".")
        )
    print(f"{keep.sum()} records of {LIKE.value}, split {SPLIT.value}")
    kept = {field.name: conditions[field.name][keep] for field in fields}
    return Real(fields, kept, patients[keep])


def categorical(where: str, names: list[str], schema: Schema) -> tuple[str, ...]:
    """`names` in the order of the schema; ValueError for others, and for numbers."""
    allowed = [f.name for f in schema if f.kind == "categorical"]
    for name in names:
        if name not in allowed:
            what = "a number" if name in schema.names else "no field of the data"
            raise ValueError(
                f"{where} {name}: {what}; expected some of {', '.join(allowed)}."
            )
    return schema.select(names).names


def known_fields(real: Real) -> list[str]:
    """--known and --balance; of all fields, those that are known at all."""
    balanced = categorical("--balance", BALANCE.value, real.schema)
    if KNOWN.value in (["none"], []):
        return list(balanced)
    if KNOWN.value != ["all"]:
        return list(real.schema.select([*KNOWN.value, *balanced]).names)
    known = []
    for field in real.schema:
        column = real.conditions[field.name]
        there = column != 0 if field.kind == "categorical" else ~np.isnan(column)
        if there.sum() >= LEAST:
            known.append(field.name)
        else:
            print(f"{field.name}: known in fewer than {LEAST} records; not asked for.")
    return known


def say_lost(share: float, records: int) -> None:
    if not share:
        return
    told = f"{share:.0%}" if share * records >= LEAST else f"fewer than {LEAST}"
    print(
        f"{told} of the records have values that are not drawn: fewer than {LEAST} "
        "patients share them, or no record like them is known in full."
    )


def show_cells(lines: list[Line]) -> None:
    """The cells of --balance that occur, or else those that are not to be trusted."""
    some = [one for one in lines if one.verdict != counting.NONE]
    poor = [one for one in some if one.verdict != counting.ENOUGH]
    print(
        f"\n{len(poor)} of {len(some)} combinations have fewer than {ENOUGH.value} "
        f"real images or {LEAST} patients: a model is not to be trusted with them."
    )
    if len(some) < len(lines):
        print(f"{len(lines) - len(some)} others do not occur and are not drawn.")
    shown = some if BALANCE.value else poor
    rows = [("combination", "real images", "drawn", "verdict")]
    for one in shown[:MOST_LINES]:
        values = ", ".join(f"{name}={value}" for name, value in one.values.items())
        rows.append((values, one.real, str(one.drawn), one.verdict))
    if shown:
        print("\n" + comparison.aligned(rows, "<>>>"))
    if len(shown) > MOST_LINES:
        print(f"… and {len(shown) - MOST_LINES} more in the file")


def compare(real: Real, rows: list[dict]) -> list[comparison.Comparison]:
    before = real.schema.decode(real.conditions)
    after = before + rows if FILL.value else rows
    columns = [
        {name: [row[name] for row in part] for name in real.schema.names}
        for part in (before, after)
    ]
    return comparison.compare(real.schema, *columns)


def publish(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside, then rename: a file is whole or not there."""
    pending = path.with_name(f".{path.name}.partial")
    try:
        write(pending)
        os.replace(pending, path)
    finally:
        pending.unlink(missing_ok=True)


def write_rows(path: Path, rows: list[dict], seeds: np.ndarray, schema: Schema) -> None:
    if OUT.value.lower().endswith(".parquet"):
        import pandas as pd

        kinds = {
            f.name: "string" if f.kind == "categorical" else "float64" for f in schema
        }
        frame = pd.DataFrame(rows, columns=list(schema.names)).astype(kinds)
        frame.assign(seed=seeds).to_parquet(path, index=False)
        return
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*schema.names, "seed"])
        for row, seed in zip(rows, seeds, strict=True):
            writer.writerow([*map(_text, row.values()), seed])


def _text(value: str | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value or ""


def picture(path: Path, compared, lines: list[Line], real: Real, count: int) -> None:
    title = (
        f"{len(real.patients):,} real images, {count:,} rows of {Path(OUT.value).name}"
    )
    cells, heading = [], ""
    if BALANCE.value:
        shown = [one for one in lines if one.verdict != counting.NONE][:MOST_LINES]
        for one in shown:
            name = ", ".join(one.values.values())
            name += f" ({counting.RARE})" if one.verdict == counting.RARE else ""
            cells.append((name, one.drawn, COLOURS.get(one.verdict, "0.5")))
        titles = [real.schema[name].title for name in lines[0].values]
        heading = f"rows drawn by {', '.join(titles)}"
        if any(one.verdict == counting.FEW for one in shown):
            heading += f" (orange: under {ENOUGH.value} real images)"
    pictures.comparison(path, title, compared, names(), cells, heading)


def names() -> tuple[str, str]:
    """Of what is compared: what is added is looked at together with what it adds to."""
    return "real", "real + cohort" if FILL.value else "cohort"


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
