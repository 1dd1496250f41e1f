"""One evaluation from start to report."""

import json
import platform

import jax
import numpy as np
import scipy

from ddpm_jax import __version__
from ddpm_jax.assessment import page, parts
from ddpm_jax.assessment.asked import PARTS, Asked
from ddpm_jax.assessment.material import Material
from ddpm_jax.evaluation.store import METRICS, REPORT, plain, read


def assess(asked: Asked) -> str:
    """Measure what was asked, write metrics.json and report.html, and say so."""
    material = Material(asked)
    with material.store.begin(material.request(), asked.overwrite):
        results = {}
        for name in PARTS:
            if name in asked.parts:
                results[name] = parts.measure(name, material)
                metrics = write(material, results)
    return f"{page.table(metrics)}\nsee {asked.out / REPORT}"


def write(material: Material, results: dict) -> dict:
    """metrics.json and report.html of what is finished, parts of before included."""
    before = (read(material.asked.out / METRICS) or {"parts": {}})["parts"]
    both = before | results
    ordered = {name: both[name] for name in PARTS if name in both}
    metrics = described(material) | {"parts": ordered}
    told = metrics["parts"].get("agreement", {})
    metrics |= {name: told[name] for name in ("real", "synthetic") if name in told}
    metrics = plain(metrics)
    material.store.write(METRICS, json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    material.store.write(REPORT, page.render(metrics, material))
    return metrics


def described(material: Material) -> dict:
    asked = material.asked
    return {
        "model_sha256": material.model_sha256,
        "count": len(material.synthetic),
        "data": material.request()
        | {
            "held-out images": len(material.test),
            "synthetic images made with": material.rows_are,
            "size": material.test.size,
        },
        "protocol": {
            "seed": asked.seed,
            "guidance": material.guidance,
            "steps": material.source.steps if material.source else None,
        },
        "versions": {
            "ddpm_jax": __version__,
            "jax": jax.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "python": platform.python_version(),
        },
    }
