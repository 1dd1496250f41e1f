"""Each part of an evaluation: what is measured, of which images."""

import os

import numpy as np

from ddpm_jax import __version__, pictures
from ddpm_jax.assessment import arms, membership
from ddpm_jax.assessment.material import Material, categories, mirrored
from ddpm_jax.assessment.progress import bar
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.evaluation import (
    agreement,
    copies,
    fidelity,
    memorisation,
    spectrum,
)
from ddpm_jax.evaluation.fidelity import Pair
from ddpm_jax.evaluation.images import Images
from ddpm_jax.evaluation.store import plain

WORST, PAIRS = 24, 24


def measure(name: str, material: Material) -> dict:
    """The result of one part, now or before; `MEASURES` has the names."""
    inputs = inputs_of(name, material)
    found = material.store.json(name, inputs, lambda: MEASURES[name](material))
    return found | {"inputs": plain(inputs)}


def inputs_of(name: str, material: Material) -> dict:
    """All that decides a part's figures, and nothing else: what is here is read, a
    labeller trained if need be."""
    asked = material.asked
    inputs = {
        "ddpm_jax": __version__,
        "test": material.test.identity,
        "synthetic": material.synthetic.identity,
    }
    if name in ("fidelity", "manifold", "memorization"):
        inputs |= {"features": material.extractor.name}
        inputs |= {"extractor": material.extractor.identity}
        if asked.features == "labeller":
            inputs |= {"labeller steps": material.labeller_steps}
    if name == "memorization":
        inputs |= {"training": material.training.identity}
        inputs |= {"loss": bool(asked.workdir)}
    if name in ("agreement", "usefulness"):
        inputs |= {"labeller steps": material.labeller_steps}
        inputs |= {"fields": material.fields.names}
        inputs |= {"train": material.train.identity}
    if name == "agreement":
        inputs |= {"labeller": material.labeller.identity}
    if name == "usefulness":
        inputs |= {"balance": arms.balance(material)}
    return inputs


def _pair(material: Material) -> Pair:
    real = material.features(material.test, "held-out images")
    return Pair(real, material.features(material.synthetic, "synthetic images"))


def measure_fidelity(material: Material) -> dict:
    found = fidelity.distances(_pair(material), material.subgroups)
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
        "groups": [
            {
                "field": real.field,
                "name": real.name,
                "real": real.count,
                "synthetic": made.count,
            }
            | _rms(powers[0][real.mask], powers[1][made.mask], rng)
            for real, made in material.subgroups
        ],
    }


def _rms(real: np.ndarray, synthetic: np.ndarray, rng) -> dict:
    """Of rings of a subgroup; None where there are too few images to halve, or none."""
    halves = np.array_split(rng.permutation(real), 2)
    floor = spectrum.band_error(*halves, rng).rms
    found = spectrum.band_error(real, synthetic, rng).rms if len(synthetic) else None
    return {"rms": found, "floor": floor}


def _told(images, told):
    for image in images:
        yield image
        told.update()


def measure_agreement(material: Material) -> dict:
    """`real` and `synthetic` as the exporter reads them; `fields` has the details."""
    schema, rng = material.fields, np.random.default_rng(0)
    codes = categories(schema)
    sets = {
        "real": (material.test, "held-out images"),
        "synthetic": (material.synthetic, "synthetic images"),
    }
    result, readings = {}, {}
    for name, (images, what) in sets.items():
        found = readings[name] = material.reading(images, what)
        cond = material.counted if name == "real" else images.cond
        told = agreement.agreement(found.codes(), cond, codes.names)
        details = agreement.fields(found, cond, schema, rng, material.counted)
        result[name] = told
        result.setdefault("fields", {})[name] = details
    made = material.synthetic
    surprise = agreement.surprise(readings["synthetic"], made.cond, schema)
    result["worst"] = _worst(surprise, readings["synthetic"], made, schema)
    if not material.rows_are_shown:
        result["worst"] = [{"image": one["image"]} for one in result["worst"]]
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


def _share(reading, images: Images, mask: np.ndarray, codes: Schema) -> dict:
    right = agreement.all_agree(reading.codes(), images.cond, codes.names)
    return agreement.proportion(int(right[mask].sum()), int(mask.sum()))


def _worst(surprise, reading, made: Images, schema: Schema) -> list[dict]:
    """The images that a reader should look at first: the field that agrees least, what
    was asked and read of it, and all that was asked."""
    order = np.argsort(-surprise.max(1))[:WORST]
    found = reading.codes() | reading.numbers
    read = schema.decode({n: found[n] for n in schema.names})
    asked = schema.decode({n: made.cond[n] for n in schema.names})
    entries = []
    for i in order:
        field = schema[schema.names[surprise[i].argmax()]]
        value = read[i][field.name]
        if field.kind == "continuous":
            value = round(value)
        entries.append(
            {
                "image": int(i),
                "surprise": float(surprise[i].max()),
                "field": field.name,
                "asked": field.caption(asked[i][field.name]),
                "read": field.caption(value),
                "row": schema.caption(asked[i]),
            }
        )
    return entries


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


MEASURES = {
    "fidelity": measure_fidelity,
    "manifold": measure_manifold,
    "spectrum": measure_spectrum,
    "agreement": measure_agreement,
    "memorization": measure_memorization,
    "usefulness": arms.measure,
}
