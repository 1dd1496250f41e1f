"""Turn a training run into a folder that samples without this training code.

python -m ddpm_jax.export --workdir runs/first --out exported
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import export as jax_export
from safetensors.numpy import save as save_safetensors

from ddpm_jax import __version__, build, card, command_line, exported, runs, sources
from ddpm_jax.conditions import schema as conditions
from ddpm_jax.reverse import Parts
from ddpm_jax.training import best

FLAGS = command_line.new_flags()
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder of a training run.", flag_values=FLAGS
)
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    "latest",
    runs.CHECKPOINTS,
    "The newest, or the best by Fréchet distance.",
    flag_values=FLAGS,
)
OUT = flags.DEFINE_string("out", None, "The folder to make.", flag_values=FLAGS)
STEPS = flags.DEFINE_list(
    "steps",
    [],
    "Numbers of steps to offer, e.g. 8,16,32; default: the config's, which stays the "
    "default wherever it is among them (else the first), and 8, 16, 32, 64 where the "
    "sampler adds no noise.",
    flag_values=FLAGS,
)
EMA = flags.DEFINE_string(
    "ema",
    None,
    "Width of the average, trained or not, e.g. 0.075; default: the config's.",
    flag_values=FLAGS,
)
EVALUATE = flags.DEFINE_string(
    "evaluate",
    None,
    "A report of `ddpm_jax.evaluate` on this model, for the card.",
    flag_values=FLAGS,
)
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace --out if it exists.", flag_values=FLAGS
)

PLATFORMS = ("cpu", "cuda", "tpu")
USUAL_STEPS = (8, 16, 32, 64)


def programs(run: runs.Run) -> dict[str, jax_export.Exported]:
    """`build.reverse_parts` as StableHLO; batch and rows of a table are symbols."""
    network = build.model(run.config, run.schema, portable=True)
    parts = build.reverse_parts(run.config, network, run.schema)
    b, n = jax_export.symbolic_shape("b, n")  # each 1 or more
    size = run.config.image_size

    def f32(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    image, bound = f32(b, size, size, 1), jax.ShapeDtypeStruct((), jnp.int32)
    params = {n: jax.ShapeDtypeStruct(p.shape, p.dtype) for n, p in run.params.items()}
    seeds = jax.ShapeDtypeStruct((b,), jnp.uint32)
    cond = {f.name: jax.ShapeDtypeStruct((b,), f.dtype) for f in run.schema}
    advance = (params, (image, image), f32(n, 5), bound, bound, seeds, cond)
    fields = run.config.sampler.get("shares", {}) or run.schema.names
    inputs = Parts(
        start=(seeds,),
        plain=advance,
        guided=(*advance, f32()),
        composed=(*advance, {name: f32() for name in fields}),
        finish=(image,),
    )
    with _without_paths():
        return {
            f"{name}.jax": jax_export.export(jax.jit(part), platforms=PLATFORMS)(*given)
            for name, part, given in zip(Parts._fields, parts, inputs, strict=True)
        }


@contextlib.contextmanager
def _without_paths():
    """Programs lowered here do not say in which folders of this machine code lies."""
    values = {
        "jax_include_full_tracebacks_in_locations": False,
        "jax_hlo_source_file_canonicalization_regex": ".*/",
    }
    before = {name: getattr(jax.config, name) for name in values}
    for name, value in values.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def numbers_of_steps(config, asked: list[int]) -> tuple[int, list[int]]:
    """(default, all in order) of `asked`, or of what suits the config where empty."""
    own = config.sampler.steps
    usual = USUAL_STEPS if config.sampler.eta == 0 else ()
    chosen = asked or [own, *usual]
    return own if own in chosen else chosen[0], sorted(set(chosen))


def export(
    run: runs.Run, out: Path, steps: list[int] | None = None, report: dict | None = None
) -> None:
    """Write the folder: description, programs, tables, weights, card, then checksums.

    `report` is the metrics.json of `ddpm_jax.evaluate`. ValueError for steps that the
    sampler cannot take, or a report on another model.
    """
    default, counts = numbers_of_steps(run.config, steps or [])
    courses = {str(count): build.course(run.config, count) for count in counts}
    model = sources.model_hash(run.params)
    if report is not None and report.get("model_sha256") != model:
        raise ValueError(
            "the report is not on this model (model_sha256 differs); evaluate the same "
            "checkpoint and --ema."
        )
    description = describe(run, default, courses) | {
        "model_sha256": model,
        "evaluation": report,
    }
    params = {name: np.asarray(value) for name, value in run.params.items()}
    content = {
        exported.DESCRIPTION: json.dumps(description, indent=1).encode(),
        exported.WEIGHTS: save_safetensors(params),
        exported.TABLES: save_safetensors({n: c.rows for n, c in courses.items()}),
        exported.CARD: card.card(description).encode(),
    }
    content |= {name: p.serialize() for name, p in programs(run).items()}
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    out.mkdir(parents=True)
    for name, data in content.items():
        (out / name).write_bytes(data)
    (out / exported.CHECKSUMS).write_text(json.dumps(sums, indent=1))


def describe(run: runs.Run, default: int, courses: dict) -> dict:
    """sampler.json, as docs/exported_sampler.md explains it."""
    options, size = run.config.sampler, run.config.image_size
    return {
        "format": exported.FORMAT,
        "schema_version": conditions.VERSION,
        "schema": run.schema.to_json(),
        "height": size,
        "width": size,
        "steps": default,
        "guided": {count: course.guided for count, course in courses.items()},
        "guidance": options.guidance,
        "shares": dict(options.get("shares", {})),
        "platforms": PLATFORMS,
        "trained_steps": run.step,
        "best": run.measured and _distance(run.measured),
        "ema": run.ema,
        "parameters": sum(p.size for p in run.params.values()),
        "data": {k: run.data[k] for k in ("name", "fingerprint", "records")},
        "versions": {
            "ddpm_jax": __version__,
            "jax": jax.__version__,
        },
        "config": run.config.to_dict() | {"data": _without_folder(run.config.data)},
    }


def _distance(measured: best.Measured) -> dict:
    return {name: getattr(measured, name) for name in ("fd", "fd_real", "images")}


def _without_folder(data) -> dict:
    return {key: value for key, value in data.to_dict().items() if key != "folder"}


def _whole_numbers(texts: list[str]) -> list[int]:
    if not all(text.isdecimal() and int(text) for text in texts):
        raise ValueError(f"--steps {','.join(texts)}: expected e.g. 8,16,32.")
    return [int(text) for text in texts]


def read_report(folder: str | None) -> dict | None:
    """metrics.json of a report folder."""
    if folder is None:
        return None
    path = Path(folder) / "metrics.json"
    if not path.is_file():
        raise ValueError(
            f"--evaluate {folder}: no metrics.json there; expected the --out folder of "
            "`python -m ddpm_jax.evaluate`."
        )
    try:
        report = json.loads(path.read_text())
        card.evaluation(report)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{path}: not as `ddpm_jax.evaluate` writes it; evaluate again."
        ) from None
    return report


def _foreign(out: Path) -> set[str]:
    """What is in a sampler folder beside the files that its checksums list."""
    listed = exported.read_json(out / exported.CHECKSUMS)
    return {path.name for path in out.iterdir()} - {*listed, exported.CHECKSUMS}


def main():
    command_line.require(FLAGS, "workdir", "out")
    steps, report = _whole_numbers(STEPS.value), read_report(EVALUATE.value)
    out = Path(OUT.value)
    if out.exists() and not OVERWRITE.value:
        raise ValueError(f"--out {out}: exists; expected a new folder or --overwrite.")
    if out.exists() and not (out / exported.CHECKSUMS).is_file():
        raise ValueError(f"--out {out}: not a sampler folder, so it is not replaced.")
    if out.exists() and (foreign := _foreign(out)):
        raise ValueError(
            f"--out {out}: {min(foreign)} is not of a sampler, so the folder is not "
            "replaced."
        )
    run = runs.load(WORKDIR.value, EMA.value, CHECKPOINT.value)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as pending:
        export(run, Path(pending) / "new", steps, report)
        if out.exists():
            shutil.rmtree(out)
        (Path(pending) / "new").rename(out)
    which = f"the best, {run.measured}," if run.measured else f"step {run.step}"
    print(f"exported {which} to {out}; start with {out / exported.CARD}")


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
