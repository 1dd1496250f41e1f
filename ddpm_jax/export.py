"""Turn a training run into a folder that samples without this training code.

python -m ddpm_jax.export --workdir runs/first --out exported
"""

import hashlib
import json
import shutil
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import export as jax_export
from safetensors.numpy import save as save_safetensors

from ddpm_jax import __version__, build, command_line, runs, sampler

FLAGS = command_line.new_flags()
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder of a training run.", flag_values=FLAGS
)
OUT = flags.DEFINE_string("out", None, "The folder to make.", flag_values=FLAGS)
STEPS = flags.DEFINE_integer(
    "steps", None, "Sampler steps; default: the run's config.", flag_values=FLAGS
)
EMA = flags.DEFINE_string(
    "ema",
    None,
    "Width of the average, trained or not, e.g. 0.075; default: the config's.",
    flag_values=FLAGS,
)
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace --out if it exists.", flag_values=FLAGS
)

PLATFORMS = ("cpu", "cuda", "tpu")


def program(run: runs.Run, steps: int | None = None) -> jax_export.Exported:
    """The sampler as StableHLO, with the batch as a symbol.

    (params, seeds uint32 [b], cond, guidance float32 []) to uint16 [b, h, w].
    """
    network = build.model(run.config, run.schema, portable=True)
    sample = build.sampler(run.config, network, run.schema, steps)
    (b,) = jax_export.symbolic_shape("b", constraints=("b >= 1",))
    params = {n: jax.ShapeDtypeStruct(p.shape, p.dtype) for n, p in run.params.items()}
    seeds = jax.ShapeDtypeStruct((b,), jnp.uint32)
    cond = {f.name: jax.ShapeDtypeStruct((b,), f.dtype) for f in run.schema}
    guidance = jax.ShapeDtypeStruct((), jnp.float32)
    exporting = jax_export.export(jax.jit(sample), platforms=PLATFORMS)
    return exporting(params, seeds, cond, guidance)


def export(run: runs.Run, out: Path, steps: int | None = None) -> None:
    """Write the folder: description, program, weights, card, then checksums."""
    exported = program(run, steps)
    size = run.config.image_size
    description = {
        "format": sampler.FORMAT,
        "schema": run.schema.to_json(),
        "height": size,
        "width": size,
        "steps": run.config.sampler.steps if steps is None else steps,
        "guidance": run.config.sampler.guidance,
        "platforms": PLATFORMS,
        "calling_convention": exported.calling_convention_version,
        "trained_steps": run.step,
        "ema": run.ema,
        "data": {k: run.data[k] for k in ("name", "fingerprint", "records")},
        "versions": {"ddpm_jax": __version__, "jax": jax.__version__},
        "config": run.config.to_dict() | {"data": None},
    }
    params = {name: np.asarray(value) for name, value in run.params.items()}
    content = {
        sampler.DESCRIPTION: json.dumps(description, indent=1).encode(),
        sampler.PROGRAM: exported.serialize(),
        sampler.WEIGHTS: save_safetensors(params),
        sampler.CARD: card(run, description).encode(),
    }
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    out.mkdir(parents=True)
    for name, data in content.items():
        (out / name).write_bytes(data)
    (out / sampler.CHECKSUMS).write_text(json.dumps(sums, indent=1))


def card(run: runs.Run, description: dict) -> str:
    """What a reader must know before using the sampler, as Markdown."""
    fields = "\n".join(f"| {f.name} | {_allowed(f)} |" for f in run.schema)
    records = ", ".join(f"{n} {split}" for split, n in run.data["records"].items())
    images = run.step * run.config.data.batch
    return f"""# Sampler of synthetic radiographs

Images from this sampler are synthetic. They show no patient and are **not for
diagnosis**.

| | |
|---|---|
| data set | {run.data["name"]}: {records} |
| data fingerprint | `{run.data["fingerprint"]}` |
| training | {run.step} steps, {images:,} images seen |
| network | {run.config.model.name}, {_millions(run.params)} parameters |
| image | {description["height"]} x {description["width"]}, 16 bits |
| sampler | {description["steps"]} steps, guidance {description["guidance"]:g} |
| evaluation | none in this folder |
| exported | {time.strftime("%Y-%m-%d")}, jax {jax.__version__} |

Conditions, each of which may be left open:

| field | allowed |
|---|---|
{fields}

Runs under any jax within `jax.export`'s compatibility window of the version above
(six months at least), on {", ".join(PLATFORMS)}.
"""


def _allowed(field) -> str:
    if field.kind == "categorical":
        return ", ".join(field.values)
    return f"{field.low:g} to {field.high:g} {field.unit}"


def _millions(params) -> str:
    return f"{sum(p.size for p in jax.tree.leaves(params)) / 1e6:.2f} million"


def main():
    command_line.require(FLAGS, "workdir", "out")
    out = Path(OUT.value)
    if out.exists() and not OVERWRITE.value:
        raise ValueError(f"--out {out}: exists; expected a new folder or --overwrite.")
    if out.exists() and not (out / sampler.CHECKSUMS).is_file():
        raise ValueError(f"--out {out}: not a sampler folder, so it is not replaced.")
    run = runs.load(WORKDIR.value, EMA.value)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as pending:
        export(run, Path(pending) / "new", STEPS.value)
        if out.exists():
            shutil.rmtree(out)
        (Path(pending) / "new").rename(out)
    print(f"exported step {run.step} to {out}; start with {out / sampler.CARD}")


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
