r"""Draw a blinded set of radiographs for a reader study.

    python -m ddpm_jax.reader_study design --real shards --synthetic images \
        --out study --readers anna,ben
    python -m ddpm_jax.reader_study design --protocol label_discrepancy \
        --real shards --synthetic images --out labels --readers anna,ben

--out is what `serve` needs and nothing in it says which image is real; the truth is in
--private, which stays away from the server and from readers. The first protocol asks
real or synthetic; the second shows synthetic images with what was asked of the model
and has each field judged. What the study can show is printed before anything is drawn.
"""

import dataclasses
import secrets
from pathlib import Path

import numpy as np
from absl import flags

from ddpm_jax import command_line
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import records
from ddpm_jax.reader_study import (
    blinding,
    draw,
    pixels,
    power,
    selection,
    study,
    writing,
)
from ddpm_jax.reader_study.material import (
    Material,
    RealShards,
    SyntheticFolder,
)

FLAGS = command_line.new_flags()
PROTOCOL = flags.DEFINE_enum(
    "protocol",
    study.REAL_OR_SYNTHETIC,
    study.PROTOCOLS,
    "What readers are asked.",
    flag_values=FLAGS,
)
REAL = flags.DEFINE_string(
    "real", None, "A data set of `data_prep.convert`.", flag_values=FLAGS
)
SPLIT = flags.DEFINE_string(
    "split", "test", "Its split; one image a patient.", flag_values=FLAGS
)
SYNTHETIC = flags.DEFINE_string(
    "synthetic", None, "A folder of `ddpm_jax.sample`.", flag_values=FLAGS
)
READERS = flags.DEFINE_list(
    "readers", ["reader-1", "reader-2"], "A name for each.", flag_values=FLAGS
)
COUNT = flags.DEFINE_integer(
    "count",
    100,
    "Images of each kind: as many real as synthetic ones, or synthetic ones to judge.",
    lower_bound=1,
    flag_values=FLAGS,
)
REPEATS = flags.DEFINE_integer(
    "repeats",
    20,
    "Images shown twice to each reader.",
    lower_bound=0,
    flag_values=FLAGS,
)
TRAINING = flags.DEFINE_integer(
    "training",
    6,
    "Practice images first, with the truth told, not counted.",
    lower_bound=0,
    flag_values=FLAGS,
)
PLANTED = flags.DEFINE_integer(
    "planted",
    10,
    "label_discrepancy: further images with one wrong label, to see whether readers "
    "would find one.",
    lower_bound=0,
    flag_values=FLAGS,
)
FIELDS = flags.DEFINE_list(
    "fields", [], "label_discrepancy: fields to judge; default: all.", flag_values=FLAGS
)
MATCH = flags.DEFINE_list(
    "match",
    ["all"],
    "real_or_synthetic: categorical fields that the two sides have equally often; all, "
    "none, or names.",
    flag_values=FLAGS,
)
BITS = flags.DEFINE_integer(
    "bits",
    None,
    "Grey depth of what is shown; default: the most, up to 12, that does not tell.",
    lower_bound=6,
    upper_bound=16,
    flag_values=FLAGS,
)
FLOOR = flags.DEFINE_float(
    "floor",
    0.02,
    "Share of the grey range cut off at either end.",
    lower_bound=0,
    upper_bound=0.25,
    flag_values=FLAGS,
)
FRAME = flags.DEFINE_float(
    "frame",
    None,
    "Share of the side cut off at each edge; default: 0.05, label_discrepancy 0.",
    lower_bound=0,
    upper_bound=0.3,
    flag_values=FLAGS,
)
CORNERS = flags.DEFINE_float(
    "corners",
    None,
    "Radius of the corners, as a share of the side; default: 0.1, label_discrepancy 0.",
    lower_bound=0,
    upper_bound=0.5,
    flag_values=FLAGS,
)
MARKERS = flags.DEFINE_enum(
    "markers",
    None,
    ("cover", "drop", "keep"),
    "What becomes of small bright things in the outer third, such as side markers: "
    "cover them, show no image that has one, or keep them; default: cover, "
    "label_discrepancy keep.",
    flag_values=FLAGS,
)
ACCEPT = flags.DEFINE_list(
    "accept_tells",
    [],
    f"Go on though these betray the truth; some of {', '.join(blinding.CURES)}.",
    flag_values=FLAGS,
)
SEED = flags.DEFINE_integer(
    "seed",
    None,
    "To make a study again: the one in its key.json; default: one that nobody knows.",
    lower_bound=0,
    flag_values=FLAGS,
)
GUESSABLE = 2**64
"""Below it, seeds can be tried one by one against the names and orders of a study."""
POWER_ONLY = flags.DEFINE_bool(
    "power_only", False, "Say what such a study can show, and end.", flag_values=FLAGS
)
OUT = flags.DEFINE_string("out", None, "The folder to make.", flag_values=FLAGS)
PRIVATE = flags.DEFINE_string(
    "private", None, "Folder of the truth; default: OUT.private.", flag_values=FLAGS
)
OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Replace a study that nobody has answered yet.",
    flag_values=FLAGS,
)


def main():
    labels = PROTOCOL.value == study.LABELS
    total = COUNT.value if labels else 2 * COUNT.value
    said = power.describe_rate(total) if labels else power.describe_accuracy(total)
    print(said)
    if POWER_ONLY.value:
        return
    command_line.require(FLAGS, "real", "synthetic", "out")
    readers = check_flags(total)
    out, private = folders()
    real = RealShards(REAL.value, SPLIT.value)
    synthetic = SyntheticFolder(SYNTHETIC.value, real.schema)
    check_material(real, synthetic)
    seed = new_seed()
    rng = np.random.default_rng(seed)
    sides = {study.REAL: real, study.SYNTHETIC: synthetic}
    path = new_path(min(BITS.value or 12, real.bits, synthetic.bits))
    if labels:
        schema = judged(real.schema)
        training, counted = draw_labels(rng, real, synthetic, schema)
    else:
        schema = Schema(())
        training, counted = draw_pairs(rng, real, synthetic, path)
        path, lines = choose_path(path, sides, counted)
        said += f"\n\n{blinding.table(lines)}"
    plan = writing.Plan(
        *(PROTOCOL.value, readers, training, counted, REPEATS.value, schema, path)
    )
    with writing.whole(private, out) as (secret, shown):
        made = writing.write(shown, rng, plan, sides)
        writing.write_private(secret, shown, made, settings(path, seed), said)
    print(
        f"{len(made)} images in {out}, {len(readers)} readers; the truth is in "
        f"{private}: keep it from server and readers\n"
        f"next: python -m ddpm_jax.reader_study serve --study {out}"
    )


# ---- what is asked ----


def check_flags(total: int) -> list[str]:
    readers = [name.strip() for name in READERS.value]
    if not readers or "" in readers or len(set(readers)) < len(readers):
        raise ValueError("--readers: expected one or more names, each once.")
    if REPEATS.value > total // 2:
        raise ValueError(
            f"--repeats {REPEATS.value}: expected at most {total // 2}, half of the "
            "images."
        )
    unknown = set(ACCEPT.value) - set(blinding.CURES)
    if unknown:
        raise ValueError(
            f"--accept_tells {', '.join(sorted(unknown))}: expected some of "
            f"{', '.join(blinding.CURES)}."
        )
    return readers


def folders() -> tuple[Path, Path]:
    """OUT and the private folder; ValueError where they cannot be made."""
    out, private = Path(OUT.value), study.private_folder(OUT.value, PRIVATE.value)
    if private == out or out in private.parents:
        raise ValueError(f"--private {private}: expected a folder outside --out.")
    if (out / study.ANSWERS).exists():
        raise ValueError(
            f"--out {out}: was served and may hold answers of readers, which nothing "
            "replaces; expected another folder."
        )
    for folder, own in ((out, study.STUDY), (private, study.KEY)):
        if folder.is_dir() and not any(folder.iterdir()):
            continue
        if folder.exists() and not OVERWRITE.value:
            raise ValueError(f"{folder}: not empty; expected another or --overwrite.")
        if folder.exists() and not (folder / own).is_file():
            raise ValueError(f"{folder}: no study, so --overwrite leaves it alone.")
    return out, private


def check_material(real: Material, synthetic: SyntheticFolder) -> None:
    sizes = [(m.width, m.height) for m in (real, synthetic)]
    if sizes[0] != sizes[1]:
        told = ["{} x {} px".format(*size) for size in sizes]
        raise ValueError(
            f"--real has {told[0]}, --synthetic {told[1]}; expected one size: resizing "
            "one side could be seen. Convert with --size of the model."
        )
    if PROTOCOL.value == study.LABELS and not synthetic.labelled:
        raise ValueError(
            f"--synthetic {SYNTHETIC.value}: no manifest.csv, so nobody knows what was "
            "asked of the model; expected a folder of `ddpm_jax.sample`."
        )


def new_path(bits: int) -> pixels.Path:
    labels = PROTOCOL.value == study.LABELS
    frame = (0.0 if labels else 0.05) if FRAME.value is None else FRAME.value
    corners = (0.0 if labels else 0.1) if CORNERS.value is None else CORNERS.value
    markers = MARKERS.value or ("keep" if labels else "cover")
    return pixels.Path(bits, FLOOR.value, frame, corners, markers == "cover")


def new_seed() -> int:
    """That of --seed, or 128 bits from the operating system: whoever knows it computes
    which name, and which place in an order, is a real image."""
    if SEED.value is None:
        return secrets.randbits(128)
    if SEED.value < GUESSABLE:
        print(
            f"--seed {SEED.value} can be guessed, and tells real from synthetic to who "
            "does; leave it out for a study that readers see."
        )
    return SEED.value


def settings(path: pixels.Path, seed: int) -> dict:
    asked = {name: FLAGS[name].value for name in sorted(FLAGS) if name != "help"}
    data = records.load_manifest(REAL.value).fingerprint()
    path_used = dataclasses.asdict(path)
    return asked | {"seed": seed, "path": path_used, "real_fingerprint": data}


# ---- which images ----


def matched(real: RealShards, synthetic: SyntheticFolder) -> list[str]:
    """The fields of --match; all: categorical ones that both sides ever know."""
    if MATCH.value in (["none"], []):
        return []
    if not synthetic.labelled:
        raise ValueError(
            f"--synthetic {SYNTHETIC.value}: no manifest.csv, so nothing to match by; "
            "expected one, or --match none."
        )
    fields = [f.name for f in real.schema if f.kind == "categorical"]
    if MATCH.value == ["all"]:
        sides = (real.candidates, synthetic.candidates)
        return [
            name
            for name in fields
            if all(any(c.row[name] is not None for c in side) for side in sides)
        ]
    for name in MATCH.value:
        if name not in fields:
            raise ValueError(
                f"--match {name}: expected all, none or some of {', '.join(fields)}."
            )
    return MATCH.value


def draw_pairs(rng, real, synthetic, path) -> selection.Drawn:
    fields = matched(real, synthetic)
    drop = MARKERS.value == "drop"
    counts = TRAINING.value, COUNT.value
    try:
        return selection.pairs(rng, real, synthetic, fields, path, drop, *counts)
    except selection.TooFew as error:
        raise ValueError(
            f"{error}. Expected more images, such as of `ddpm_jax.cohort --like "
            f"{REAL.value} --split {SPLIT.value}`, a smaller --count, or fewer fields "
            "in --match."
        ) from None


def draw_labels(rng, real, synthetic, schema) -> selection.Drawn:
    counts = TRAINING.value, COUNT.value, PLANTED.value
    try:
        seen = draw.seen_together(real.candidates, synthetic.candidates)
        return selection.labels(rng, synthetic.candidates, schema, seen, *counts)
    except selection.TooFew as error:
        raise ValueError(
            f"--synthetic {SYNTHETIC.value}: {error}. Expected more, or a smaller "
            "--count, --planted or --training."
        ) from None


def choose_path(path, sides, counted) -> tuple[pixels.Path, list[blinding.Line]]:
    """The path of most bits that does not tell; ValueError where something does."""
    least = path.bits if BITS.value else min(8, path.bits)
    path, lines = selection.choose_path(path, least, sides, counted)
    print(f"Blinding, {path.bits} bits:\n{blinding.table(lines)}")
    betraying = {one.name for one in lines if one.betrays}
    rest = sorted(betraying - set(ACCEPT.value))
    if rest:
        cures = "; ".join(f"{name}: {blinding.CURES[name]}" for name in rest)
        raise ValueError(
            f"{', '.join(rest)} would betray real or synthetic to who looks for it. "
            f"Expected other settings ({cures}) or --accept_tells {','.join(rest)}."
        )
    return path, lines


def judged(schema: Schema) -> Schema:
    return schema.select(FIELDS.value or schema.names)


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
