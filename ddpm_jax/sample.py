r"""Make synthetic radiographs from a training run or an exported sampler.

    python -m ddpm_jax.sample --workdir runs/first --count 8 --out images \
        --prompt "AP pelvis, both hips, right hip prosthesis, 67-year-old woman, BMI 31"
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags
from tqdm import tqdm

from ddpm_jax import command_line, film, pictures, sampler, sources
from ddpm_jax.conditions.prompt import parse_prompt
from ddpm_jax.conditions.schema import Schema

FLAGS = command_line.new_flags()
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder of a training run.", flag_values=FLAGS
)
SAMPLER = flags.DEFINE_string(
    "sampler", None, "Or: the folder of an exported sampler.", flag_values=FLAGS
)
PROMPT = flags.DEFINE_multi_string(
    "prompt", [], "What to show, in English; repeatable.", flag_values=FLAGS
)
CONDITIONS = flags.DEFINE_string(
    "conditions",
    None,
    "Or: a CSV, one row an image, one column a field.",
    flag_values=FLAGS,
)
COUNT = flags.DEFINE_integer(
    "count", 1, "Images per prompt or row.", lower_bound=1, flag_values=FLAGS
)
SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the first image.", lower_bound=0, flag_values=FLAGS
)
GUIDANCE = flags.DEFINE_float(
    "guidance", None, "Guidance weight; default: the model's.", flag_values=FLAGS
)
STEPS = flags.DEFINE_integer(
    "steps",
    None,
    "Sampler steps; an exported sampler has a few numbers of them.",
    flag_values=FLAGS,
)
EMA = flags.DEFINE_string(
    "ema",
    None,
    "Width of the average, trained or not, e.g. 0.075 (with --workdir); default: the "
    "config's.",
    flag_values=FLAGS,
)
BATCH = flags.DEFINE_integer(
    "batch",
    sampler.BATCH,
    "Images at a time; another size rounds otherwise.",
    lower_bound=1,
    flag_values=FLAGS,
)
OUT = flags.DEFINE_string("out", None, "The folder to make.", flag_values=FLAGS)
FILM = flags.DEFINE_string(
    "film",
    None,
    "Instead of --out: the images coming out of the noise, as .gif, .mp4 (extra "
    "[film]), or .png, a strip.",
    flag_values=FLAGS,
)
SWEEP = flags.DEFINE_string(
    "sweep",
    None,
    "With --film: the images while one condition changes and the seed does not, e.g. "
    "age=40:90, bmi=20,30,45, prosthesis_right=no,yes.",
    flag_values=FLAGS,
)
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Write into --out, or --film, if it exists.", flag_values=FLAGS
)

MOST_ON_SHEET = 64
WRITTEN = ("file", "model_sha256")
"""Columns of manifest.csv beside the conditions, so that it can be asked for again."""


class Asked(NamedTuple):
    """One image asked for."""

    row: dict
    seed: int
    prompt: str


def read_conditions(path: str, schema: Schema) -> list[tuple[dict, int | None, str]]:
    """(row, seed or None, prompt) of each line of a CSV; columns are fields of the
    schema, and optionally `seed` and `prompt`."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: no readable CSV in UTF-8 ({error}).") from None
    columns = lines[0] if lines else []
    allowed = (*schema.names, "seed", "prompt")
    extra = sorted(set(columns) - {*allowed, *WRITTEN})
    if extra or len(set(columns)) < len(columns):
        raise ValueError(
            f"{path}: columns {', '.join(extra or columns)}: expected some of "
            f"{', '.join(allowed)}, each once."
        )
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        try:
            if len(cells) != len(columns):
                raise ValueError(
                    f"{len(cells)} cells for {len(columns)} columns; a prompt with "
                    "commas needs quotation marks."
                )
            rows.append(_read_line(dict(zip(columns, cells, strict=True)), schema))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    if not rows:
        raise ValueError(f"{path}: no rows; expected one an image.")
    return rows


def _read_line(line: dict, schema: Schema):
    prompt = (line.get("prompt") or "").strip()
    row = dict(parse_prompt(prompt, schema).row) if prompt else {}
    columns = schema.parse({name: line.get(name) for name in schema.names})
    stated = {name: value for name, value in columns.items() if value is not None}
    for name, value in stated.items():
        if row.get(name) not in (None, value):
            raise ValueError(f"the prompt says {name} = {row[name]}, a column {value}.")
    text = (line.get("seed") or "").strip()
    if text and not text.isdecimal():
        raise ValueError(f"seed = {text!r}: expected a whole number from 0.")
    return schema.parse(row | stated), int(text) if text else None, prompt


def what_is_asked(schema: Schema) -> list[Asked]:
    """The images that the flags ask for, in order, each with its seed."""
    if bool(PROMPT.value) == bool(CONDITIONS.value):
        raise ValueError("expected one of --prompt and --conditions.")
    if CONDITIONS.value:
        requests = read_conditions(CONDITIONS.value, schema)
    else:
        requests = []
        for text in PROMPT.value:
            understood = parse_prompt(text, schema)
            print(understood.describe())
            requests.append((understood.row, None, text))
    asked = []
    for row, seed, prompt in requests:
        first = SEED.value + len(asked) if seed is None else seed
        asked += [Asked(row, first + i, prompt) for i in range(COUNT.value)]
    return asked


def make_film():
    path = film.check(FILM.value, OVERWRITE.value)
    source = sources.open_source(WORKDIR.value, SAMPLER.value, STEPS.value, EMA.value)
    asked = what_is_asked(source.schema)
    film.make(
        path,
        source.sampler,
        [one.row for one in asked],
        [one.seed for one in asked],
        sweep=SWEEP.value,
        steps=STEPS.value,
        guidance=GUIDANCE.value,
    )
    print(f"see {path}")


def main():
    if FILM.value or SWEEP.value:
        return make_film()
    command_line.require(FLAGS, "out")
    out = Path(OUT.value)
    if out.exists() and any(out.iterdir()) and not OVERWRITE.value:
        raise ValueError(
            f"--out {out}: not empty; expected a new folder or --overwrite."
        )
    source = sources.open_source(WORKDIR.value, SAMPLER.value, STEPS.value, EMA.value)
    asked = what_is_asked(source.schema)
    parts = sources.images(
        source,
        [one.row for one in asked],
        [one.seed for one in asked],
        guidance=GUIDANCE.value,
        batch=BATCH.value,
    )
    out.mkdir(parents=True, exist_ok=True)
    images = []
    with tqdm(total=len(asked), desc="sampling", unit="image") as bar:
        for part in parts:
            for image in part:
                pictures.write_png16(out / f"{len(images):06d}.png", image)
                images.append(image)
            bar.update(len(part))
    write_record(out / "manifest.csv", source, asked)
    shown = images[:MOST_ON_SHEET]
    captions = [
        f"{source.schema.caption(one.row)}; seed {one.seed}"
        for one in asked[: len(shown)]
    ]
    pictures.contact_sheet(np.stack(shown), captions).save(out / "contact_sheet.png")
    print(f"{len(images)} images in {out}; see {out / 'contact_sheet.png'}")


def write_record(path: Path, source: sources.Source, asked: list[Asked]) -> None:
    """One line per image: file, seed, conditions, prompt, hash of the model."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["file", "seed", *source.schema.names, "prompt", "model_sha256"]
        )
        for index, one in enumerate(asked):
            values = ["" if v is None else v for v in one.row.values()]
            writer.writerow(
                [f"{index:06d}.png", one.seed, *values, one.prompt, source.model_hash]
            )


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
