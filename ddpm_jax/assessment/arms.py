"""Usefulness: what labellers are trained on, and the balanced synthetic images."""

import numpy as np

from ddpm_jax.assessment.material import Material, categorical, categories
from ddpm_jax.assessment.progress import bar
from ddpm_jax.conditions.cells import Cells
from ddpm_jax.conditions.cohort import Joint
from ddpm_jax.data import records
from ddpm_jax.evaluation import usefulness
from ddpm_jax.evaluation.images import Images, join


def measure(material: Material) -> dict:
    schema = categories(material.fields)
    real, made = material.train, material.synthetic
    names = balance(material)
    even = balanced(material, names)
    arms = {
        "real": real,
        "synthetic": made,
        "real + synthetic": join(real, made),
        "real + balanced synthetic": join(real, even),
    }
    steps = material.labeller_steps

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
            material.counted,
            schema,
            [real for real, _ in material.subgroups],
            steps=steps,
            kept=kept,
            report=told.loss,
        )
    return found | {"balanced_over": names}


def balance(material: Material) -> tuple[str, ...]:
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
