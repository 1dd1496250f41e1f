"""Each part of an evaluation: what is measured, of which images."""

import os

import numpy as np

from ddpm_jax import pictures
from ddpm_jax.assessment import membership
from ddpm_jax.assessment.material import Material, bar, categorical, mirrored
from ddpm_jax.conditions.cells import Cells
from ddpm_jax.conditions.cohort import Joint
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import records
from ddpm_jax.evaluation import (
    agreement,
    copies,
    fidelity,
    labeller,
    memorisation,
    spectrum,
    usefulness,
)
from ddpm_jax.evaluation.fidelity import Pair
from ddpm_jax.evaluation.images import Images, join

WORST, PAIRS = 24, 24


def measure(name: str, material: Material) -> dict:
    """The result of one part, now or before; `MEASURES` has the names."""
    inputs = {
        "test": material.test.identity,
        "synthetic": material.synthetic.identity,
        "extractor": material.extractor.identity,
        "train": material.train.identity,
        "training": material.training.identity,
        "fields": material.fields.names,
        "epochs": material.asked.epochs,
        "balance": material.asked.balance,
        "model": material.model_sha256,
    }
    return material.store.json(name, inputs, lambda: MEASURES[name](material))


def _pair(material: Material) -> Pair:
    real = material.features(material.test, "held-out images")
    return Pair(real, material.features(material.synthetic, "synthetic images"))


def measure_fidelity(material: Material) -> dict:
    found = fidelity.distances(_pair(material))
    return found | {"extractor": material.extractor.name}


def measure_manifold(material: Material) -> dict:
    found = fidelity.manifolds(_pair(material), material.subgroups)
    return found | {"extractor": material.extractor.name}


def measure_spectrum(material: Material) -> dict:
    powers = []
    named = ("held-out", material.test), ("synthetic", material.synthetic)
    for what, images in named:
        with bar(len(images), f"spectra of {what} images", "image") as told:
            powers.append(
                spectrum.crop_power(_told(images, told)),
            )
    rng = np.random.default_rng(0)
    halves = np.array_split(rng.permutation(powers[0]), 2)
    error = spectrum.band_error(*powers, rng)
    return {
        "crop": min(spectrum.CROP, material.test.size),
        "error": error,
        "rms": error.rms,
        "floor": spectrum.band_error(*halves, rng).rms,
        "power": {
            "real": powers[0].mean(0),
            "synthetic": powers[1].mean(0),
        },
    }


def _told(images, told):
    for image in images:
        yield image
        told.update()


def measure_agreement(material: Material) -> dict:
    """`real` and `synthetic` as the exporter reads them; `fields` has the details."""
    schema, rng = material.fields, np.random.default_rng(0)
    codes = _categories(schema)
    sets = {
        "real": (material.test, "held-out images"),
        "synthetic": (material.synthetic, "synthetic images"),
    }
    result, readings = {}, {}
    for name, (images, what) in sets.items():
        found = readings[name] = material.reading(images, what)
        told = agreement.agreement(found.codes(), images.cond, codes.names)
        details = agreement.fields(found, images.cond, schema, rng)
        result[name] = told
        result.setdefault("fields", {})[name] = details
    made = material.synthetic
    surprise = agreement.surprise(readings["synthetic"], made.cond, schema)
    result["worst"] = _worst(surprise, readings["synthetic"], made, schema)
    result["groups"] = [
        {
            "field": real.field,
            "name": real.name,
            "real": _share(readings["real"], material.test, real.mask, codes),
            "synthetic": _share(readings["synthetic"], made, mine.mask, codes),
        }
        for real, mine in material.subgroups
    ]
    return result


def _categories(schema: Schema) -> Schema:
    chosen = [f.name for f in schema if f.kind == "categorical"]
    if not chosen:
        raise ValueError("--fields: expected a categorical field among them.")
    return schema.select(chosen)


def _share(reading, images: Images, mask: np.ndarray, codes: Schema) -> dict:
    right = agreement.all_agree(reading.codes(), images.cond, codes.names)
    return agreement.proportion(int(right[mask].sum()), int(mask.sum()))


def _worst(surprise, reading, made: Images, schema: Schema) -> list[dict]:
    """The images that a reader should look at first, with what was read from them."""
    order = np.argsort(-surprise)[:WORST]
    read = reading.codes() | reading.numbers
    rows = schema.decode({n: read[n][order] for n in schema.names})
    asked = schema.decode({n: made.cond[n][order] for n in schema.names})
    return [
        {
            "image": int(i),
            "surprise": float(surprise[i]),
            "asked": schema.caption(want),
            "read": schema.caption({n: row[n] for n in want if want[n] is not None}),
        }
        for i, want, row in zip(order, asked, read_rounded(rows, schema), strict=True)
    ]


def read_rounded(rows: list[dict], schema: Schema) -> list[dict]:
    """Numbers to what a reading is worth."""
    return [
        {
            n: round(v, 0) if schema[n].kind == "continuous" and v is not None else v
            for n, v in row.items()
        }
        for row in rows
    ]


def measure_memorization(material: Material) -> dict:
    training, held_out, made = material.training, material.test, material.synthetic
    library = copies.Library(
        copies.small(training), material.features(training, "training images")
    )
    found = {}
    for what, images in (("held-out", held_out), ("synthetic", made)):
        flipped = material.features(mirrored(images), f"mirrored {what} images")
        plain = material.features(images, f"{what} images")
        small = copies.small(images)
        with bar(len(images), f"neighbours of {what} images", "image") as told:
            found[what] = library.nearest(small, plain, flipped, told.update)
    verdict = memorisation.judge(found["synthetic"], found["held-out"])
    _write_pairs(material, found["synthetic"], verdict)
    result = memorisation.summary(
        found["synthetic"],
        found["held-out"],
        verdict,
        [mine for _, mine in material.subgroups],
        memorisation.rarity_groups(material.schema, training.cond, made.cond),
    )
    result["training"] = len(training)
    result["flagged_images"] = np.flatnonzero(verdict.flagged)
    if material.asked.workdir:
        workdir, chosen = material.asked.workdir, material.asked.checkpoint
        scores = membership.scores(workdir, training, held_out, chosen)
        result["membership"] = memorisation.membership(scores)
    return result


def _write_pairs(material: Material, near: copies.Nearest, verdict) -> None:
    """Synthetic images beside the training images they are nearest to, in pairs.png."""
    order = np.argsort(near.ratio)[:PAIRS]
    images, captions = [], []
    for i in order:
        real = material.training.read(int(near.index[i]))
        made = material.synthetic.read(int(i))
        images += [made, real[:, ::-1] if near.mirrored[i] else real]
        flag = "flagged" if verdict.flagged[i] else "not flagged"
        turned = ", mirrored" if near.mirrored[i] else ""
        captions += [
            f"synthetic {i}: ratio {near.ratio[i]:.2f}, {flag}",
            f"nearest training image{turned}",
        ]
    sheet = pictures.contact_sheet(np.stack(images), captions, columns=6)
    path = material.store.private / "pairs.png"
    partial = path.with_suffix(".tmp")
    partial.unlink(missing_ok=True)
    number = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "wb") as file:
        sheet.save(file, "PNG")
    partial.replace(path)


def measure_usefulness(material: Material) -> dict:
    schema = _categories(material.fields)
    real, made = material.train, material.synthetic
    names = _balance(material)
    even = balanced(material, names)
    arms = {
        "real": real,
        "synthetic": made,
        "real + synthetic": join(real, made),
        "real + balanced synthetic": join(real, even),
    }
    steps = labeller.steps_of(material.asked.epochs, len(real))

    def kept(name: str, images: Images, make) -> dict:
        inputs = {
            "images": images.identity,
            "test": material.test.identity,
            "steps": steps,
            "fields": schema.names,
        }
        return material.store.arrays(f"arm-{name.replace(' ', '')}", inputs, make)

    with bar(steps * len(arms), "usefulness", "step") as told:
        found = usefulness.compare(
            arms,
            material.test,
            schema,
            [real for real, _ in material.subgroups],
            steps=steps,
            kept=kept,
            report=told.loss,
        )
    return found | {"balanced_over": names}


def _balance(material: Material) -> tuple[str, ...]:
    known = [f.name for f in material.schema if f.kind == "categorical"]
    asked = material.asked.balance
    if asked:
        return categorical(material.schema, asked, "--balance")
    usual = [n for n in known if n == "sex" or n.startswith("prosthesis")]
    return material.schema.select(usual or known).names


def balanced(material: Material, names: tuple[str, ...]) -> Images:
    """As many synthetic images as there are, balanced over `names`: made by the model,
    with conditions like those of the training split, or half of those there are."""
    count = len(material.synthetic)
    chosen = usefulness.balanced(material.synthetic, names, count // 2)
    if material.source is None:
        return material.synthetic.take(chosen)
    schema, real = material.schema, material.asked.real
    cond, patients = records.read_conditions(real, "train", schema)
    try:
        joint = Joint.make(schema, cond, patients, names)
        cells = Cells.count(schema, cond, patients, names)
        group = joint.group(cells.names, cells.codes)
        possible = np.isin(np.arange(len(cells)), group[joint.weights > 0])
        counts = cells.quotas(possible, count, False)
        drawn = joint.draw(np.random.default_rng(1), counts, group)
    except ValueError:  # too few patients to draw others like them
        return material.synthetic.take(chosen)
    rows = schema.decode({name: drawn[name] for name in schema.names})
    return material.sample(rows, material.asked.out / "balanced", material.asked.seed)


MEASURES = {
    "fidelity": measure_fidelity,
    "manifold": measure_manifold,
    "spectrum": measure_spectrum,
    "agreement": measure_agreement,
    "memorization": measure_memorization,
    "usefulness": measure_usefulness,
}
