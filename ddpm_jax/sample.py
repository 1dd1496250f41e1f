r"""Make synthetic radiographs from a training run or an exported sampler.

    python -m ddpm_jax.sample --workdir runs/first --count 8 --out images \
        --prompt "AP pelvis, both hips, right hip prosthesis, 67-year-old woman, BMI 31"
    python -m ddpm_jax.sample --sampler exported --conditions cohort.csv \
        --format png,dicom,records --out cohort

The same command goes on after any interruption. Several processes (Slurm, TPU slices,
or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID) share the images.
"""

import signal
import threading
from pathlib import Path

import numpy as np
from absl import flags

from ddpm_jax import command_line, film, runs, sampler, sources
from ddpm_jax.conditions.numeric import check_seeds, finite
from ddpm_jax.conditions.prompt import parse_prompt
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data.splits import parse_splits
from ddpm_jax.outputs import claim, dicom, folder, png, requests, work
from ddpm_jax.outputs.requests import Asked
from ddpm_jax.outputs.table import Table, read_table
from ddpm_jax.training import distributed

FLAGS = command_line.new_flags()
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder of a training run.", flag_values=FLAGS
)
SAMPLER = flags.DEFINE_string(
    "sampler", None, "Or: the folder of an exported sampler.", flag_values=FLAGS
)
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    "latest",
    runs.CHECKPOINTS,
    "Of a run: its newest checkpoint, or the best by Fréchet distance.",
    flag_values=FLAGS,
)
PROMPT = flags.DEFINE_multi_string(
    "prompt", [], "What to show, in English; repeatable.", flag_values=FLAGS
)
CONDITION = flags.DEFINE_multi_string(
    "condition",
    [],
    "What to show, field=value, e.g. --condition view=AP --condition age=70; alone or "
    "beside --prompt.",
    flag_values=FLAGS,
)
CONDITIONS = flags.DEFINE_string(
    "conditions",
    None,
    "Or: a CSV or Parquet, one row an image, one column a field, and seed and prompt "
    "if they are wanted. A manifest.csv asks for the same images again.",
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
    "Images at a time on each device; another size rounds otherwise.",
    lower_bound=1,
    flag_values=FLAGS,
)
FORMAT = flags.DEFINE_multi_string(
    "format",
    ["png"],
    "png (16 bits), dicom (Secondary Capture) or records (shards to train on, in "
    "OUT/records); several with commas between, or repeated.",
    flag_values=FLAGS,
)
BURN_IN = flags.DEFINE_bool(
    "burn_in",
    False,
    "Mark PNG and DICOM with SYNTHETIC in the upper left corner.",
    flag_values=FLAGS,
)
UID_ROOT = flags.DEFINE_string(
    "uid_root",
    "",
    "With dicom: the root of all UIDs; without one they begin with 2.25.",
    flag_values=FLAGS,
)
SPLITS = flags.DEFINE_list(
    "splits",
    ["train=1"],
    "With records: splits and their shares of the images.",
    flag_values=FLAGS,
)
RECORDS_PER_SHARD = flags.DEFINE_integer(
    "records_per_shard",
    512,
    "With records: also what is made again after an interruption, at most.",
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
    "overwrite",
    False,
    "Make --out anew if there is something else in it; replace --film.",
    flag_values=FLAGS,
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Look for the other processes of this command even if nothing in the environment "
    "tells of them.",
    flag_values=FLAGS,
)

OF_FOLDERS = (
    *("format", "burn_in", "batch", "uid_root", "splits", "records_per_shard"),
    "distributed",
)
"""Flags that say nothing of a film."""


def formats() -> tuple[str, ...]:
    """Of --format, in the order of `folder.FORMATS`, each once."""
    asked = {name.strip() for text in FORMAT.value for name in text.split(",")}
    if unknown := sorted(asked - set(folder.FORMATS)):
        raise ValueError(
            f"--format {', '.join(unknown)}: expected some of "
            f"{', '.join(folder.FORMATS)}."
        )
    return tuple(name for name in folder.FORMATS if name in asked)


def what_is_asked(schema: Schema, table: Table | None) -> list[Asked]:
    """The images that the flags ask for, in order, each with its seed."""
    if bool(PROMPT.value or CONDITION.value) == (table is not None):
        raise ValueError(
            "expected one of --prompt and --conditions; or --condition, alone or "
            "beside --prompt."
        )
    if table is not None:
        rows = requests.read_rows(table, schema, COUNT.value, distributed.leads())
    else:
        stated = requests.read_pairs(CONDITION.value, schema)
        rows = [] if PROMPT.value else [(schema.parse(stated), None, "")]
        for text in PROMPT.value:
            understood = parse_prompt(text, schema)
            if distributed.leads():
                print(understood.describe())
            row = requests.combine(understood.row, stated, "--condition", schema)
            rows.append((row, None, text))
    asked = list(requests.numbered(rows, SEED.value, COUNT.value))
    check_seeds([one.seed for one in asked])
    return asked


def open_source(steps: int | None) -> sources.Source:
    return sources.open_source(
        WORKDIR.value, SAMPLER.value, steps, EMA.value, CHECKPOINT.value
    )


def make_job(table: Table | None) -> tuple[folder.Job, sources.Source]:
    """What is to be done, all of it checked, and who does it."""
    chosen, root = formats(), dicom.check_root(UID_ROOT.value)
    shares = parse_splits(SPLITS.value)
    guidance, steps = GUIDANCE.value, STEPS.value
    if table is not None:
        guidance, steps = as_made(table, guidance, steps)
    source = open_source(steps)
    guidance = finite("guidance", source.guidance if guidance is None else guidance)
    asked = what_is_asked(source.schema, table)
    if BURN_IN.value:
        png.marked(np.zeros((source.size, source.size), np.uint16))
    model = requests.Model(source.model_hash, guidance, source.steps)
    if table is not None:
        say_where_models_differ(table, model)
    job = folder.Job(
        out=Path(OUT.value),
        asked=asked,
        schema=source.schema,
        size=source.size,
        model=model,
        kind="run" if WORKDIR.value else "sampler",
        batch=BATCH.value,
        formats=chosen,
        burn_in=BURN_IN.value,
        uid_root=root,
        shares=shares,
        per_shard=RECORDS_PER_SHARD.value,
    )
    return job, source


def as_made(
    table: Table, guidance: float | None, steps: int | None
) -> tuple[float | None, int | None]:
    """(guidance, steps) as given, or else as a manifest.csv states them."""
    if guidance is None:
        guidance = requests.made_with(table, "guidance")
    if steps is None:
        stated = requests.made_with(table, "steps")
        if stated is not None and not stated.is_integer():
            raise ValueError(f"{table.path}: column steps: expected a whole number.")
        steps = None if stated is None else int(stated)
    return guidance, steps


def say_where_models_differ(table: Table, model: requests.Model) -> None:
    """The same rows and seeds are other images where the model or its steps differ."""
    others = requests.models_of(table) - {model.sha256}
    if others and distributed.leads():
        print(
            f"{table.path}: made by another model ({sorted(others)[0][:12]}, this is "
            f"{model.sha256[:12]}): the same conditions and seeds, other images"
        )


def make_film():
    path = film.check(FILM.value, OVERWRITE.value)
    if OUT.value:
        raise ValueError("expected one of --film and --out.")
    if ignored := [f"--{name}" for name in OF_FOLDERS if FLAGS[name].present]:
        raise ValueError(
            f"{', '.join(ignored)}: not of a film; expected --out instead of "
            "--film, or a film without."
        )
    table = read_table(CONDITIONS.value) if CONDITIONS.value else None
    guidance, steps = GUIDANCE.value, STEPS.value
    if table is not None:
        guidance, steps = as_made(table, guidance, steps)
    source = open_source(steps)
    asked = what_is_asked(source.schema, table)
    film.make(
        path,
        source.sampler,
        [one.row for one in asked],
        [one.seed for one in asked],
        sweep=SWEEP.value,
        steps=steps,
        guidance=guidance,
    )
    print(f"see {path}")


def main():
    if FILM.value is not None or SWEEP.value is not None:
        return make_film()
    command_line.require(FLAGS, "out")
    table = read_table(CONDITIONS.value) if CONDITIONS.value else None
    distributed.initialize(DISTRIBUTED.value)
    job, source = make_job(table)
    finished = work.lead(lambda: claim.begin(job, OVERWRITE.value), "begin")
    if not finished:
        with preemptible():
            clock = work.make(job, source)
            work.lead(lambda: folder.finish(job), "finish")
        if distributed.leads():
            print(clock.report())
    if distributed.leads():
        said = " (there already)" if finished else ""
        count, sheet = len(job.asked), job.out / folder.SHEET
        print(f"{count} images in {job.out}{said}; see {sheet}")


class preemptible:
    """SIGTERM, as schedulers send it, ends what runs like Ctrl-C: exit status 75."""

    def __enter__(self):
        self.before = None
        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGTERM, self.stop)

    def stop(self, number, frame):
        raise command_line.Preempted

    def __exit__(self, *_):
        if self.before is not None:
            signal.signal(signal.SIGTERM, self.before)


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
