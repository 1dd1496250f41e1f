"""Hold synthetic radiographs against real ones.

    python -m ddpm_jax.evaluate --real HELD_OUT --workdir runs/first --out report

Label agreement: a classifier trained on the real `train` split, tested on the real
`test` split, then on images asked for with conditions drawn from the `test` split.
"""

import json
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from ddpm_jax import command_line, pictures, sources
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import pipeline, records
from ddpm_jax.evaluation import agreement

FLAGS = command_line.new_flags()
REAL = flags.DEFINE_string(
    "real",
    None,
    "A data set of `data_prep.convert` that the model did not train on.",
    flag_values=FLAGS,
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder of a training run.", flag_values=FLAGS
)
SAMPLER = flags.DEFINE_string(
    "sampler", None, "Or: the folder of an exported sampler.", flag_values=FLAGS
)
COUNT = flags.DEFINE_integer(
    "count", 200, "Synthetic images.", lower_bound=1, flag_values=FLAGS
)
SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the first image.", lower_bound=0, flag_values=FLAGS
)
GUIDANCE = flags.DEFINE_float(
    "guidance", None, "Guidance weight; default: the model's.", flag_values=FLAGS
)
EPOCHS = flags.DEFINE_integer(
    "epochs", 6, "Epochs of the classifier.", lower_bound=1, flag_values=FLAGS
)
FIELDS = flags.DEFINE_list(
    "fields",
    ["view", "side", "prosthesis_right", "prosthesis_left"],
    "Categorical fields to compare.",
    flag_values=FLAGS,
)
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Write into --out if it exists.", flag_values=FLAGS
)
OUT = flags.DEFINE_string("out", None, "The folder to make.", flag_values=FLAGS)


def main():
    command_line.require(FLAGS, "real", "out")
    out = Path(OUT.value)
    if out.is_dir() and any(out.iterdir()) and not OVERWRITE.value:
        raise ValueError(f"--out {out}: not empty; expected another or --overwrite.")
    source = sources.open_source(WORKDIR.value, SAMPLER.value)
    schema = chosen_fields(source.schema)
    manifest = records.load_manifest(REAL.value)
    if manifest.height != source.size:
        raise ValueError(
            f"--real {REAL.value}: images of {manifest.height} px, but the model makes "
            f"{source.size} px; convert with --size {source.size}."
        )
    bits = manifest.bits
    out.mkdir(parents=True, exist_ok=True)
    train = pipeline.read_all(REAL.value, "train", source.schema)
    test = pipeline.read_all(REAL.value, "test", source.schema)

    with tqdm(total=EPOCHS.value, desc="classifier", unit="epoch") as bar:
        predict = agreement.train_classifier(
            agreement.to_input(train["image"], bits),
            train["cond"],
            schema,
            epochs=EPOCHS.value,
            report=lambda loss: bar.set_postfix(loss=f"{loss:.4f}") or bar.update(),
        )
    on_real = agreement.agreement(
        predict(agreement.to_input(test["image"], bits)), test["cond"], schema.names
    )

    drawn = np.random.default_rng(SEED.value).choice(len(test["image"]), COUNT.value)
    rows = source.schema.decode({k: v[drawn] for k, v in test["cond"].items()})
    seeds = range(SEED.value, SEED.value + COUNT.value)
    parts = sources.images(source, rows, seeds, guidance=GUIDANCE.value)
    with tqdm(total=COUNT.value, desc="sampling", unit="image") as bar:
        made = []
        for part in parts:
            made.append(part)
            bar.update(len(part))
    images = np.concatenate(made)
    asked = source.schema.encode(rows)
    found = predict(agreement.to_input(images, 16))
    on_synthetic = agreement.agreement(found, asked, schema.names)

    report = {
        "real": on_real,
        "synthetic": on_synthetic,
        "count": COUNT.value,
        "model_sha256": source.model_hash,
    }
    (out / "metrics.json").write_text(json.dumps(report, indent=1) + "\n")
    write_disagreements(out, images, rows, found, schema)
    print(table(on_real, on_synthetic))
    print(f"see {out / 'metrics.json'} and {out / 'disagreements.png'}")


def chosen_fields(schema: Schema) -> Schema:
    """The fields of --fields; ValueError unless there are some, all categorical."""
    chosen = schema.select(FIELDS.value)
    for field in chosen:
        if field.kind != "categorical":
            raise ValueError(f"--fields {field.name}: expected categorical fields.")
    if not chosen.names:
        raise ValueError(f"--fields: expected some of {', '.join(schema.names)}.")
    return chosen


def write_disagreements(out: Path, images, rows, found, schema) -> None:
    """The images that a reader should look at first, with what was read from them."""
    asked = schema.encode([{name: row[name] for name in schema.names} for row in rows])
    wrong = [
        index
        for index in range(len(images))
        if any(asked[n][index] not in (0, found[n][index]) for n in schema.names)
    ][:32]
    picked = wrong or list(range(min(16, len(images))))
    read = schema.decode({name: found[name][picked] for name in schema.names})
    captions = [
        f"asked: {schema.caption({n: rows[i][n] for n in schema.names})}\n"
        f"read: {schema.caption(row)}"
        for i, row in zip(picked, read, strict=True)
    ]
    sheet = pictures.contact_sheet(images[picked], captions)
    sheet.save(out / "disagreements.png")


def table(on_real: dict, on_synthetic: dict) -> str:
    """Agreement by field, real and synthetic, as aligned text."""
    lines = [f"{'field':<20}{'held-out real':>24}{'synthetic':>24}"]
    for name in on_real:
        cells = [_cell(on_real[name]), _cell(on_synthetic[name])]
        lines.append(f"{name:<20}{cells[0]:>24}{cells[1]:>24}")
    return "\n".join(lines)


def _cell(p: dict) -> str:
    if p["share"] is None:
        return "none asked"
    return f"{p['share']:.1%} ({p['low']:.1%}–{p['high']:.1%})"


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
