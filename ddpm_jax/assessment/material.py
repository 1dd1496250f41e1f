"""The images of an evaluation, and what was read of them, each made once and kept."""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ddpm_jax import sampler, sources
from ddpm_jax.assessment.asked import Asked
from ddpm_jax.assessment.progress import bar
from ddpm_jax.conditions.cohort import Joint
from ddpm_jax.conditions.numeric import finite
from ddpm_jax.conditions.schema import Conditions, Schema
from ddpm_jax.data import records
from ddpm_jax.evaluation import features as extractors
from ddpm_jax.evaluation import groups, labeller
from ddpm_jax.evaluation.images import Images, of_records
from ddpm_jax.evaluation.labeller import Labeller, Reading
from ddpm_jax.evaluation.store import Store
from ddpm_jax.outputs import claim, folder, reading, requests, work

DEFAULT_COUNT = 1000
LEAST_IMAGES = 20
DRAWN_ROWS = "conditions distributed as those of held-out images"
REAL_ROWS = "conditions of held-out images, which are too few to draw others like them"


class Material:
    """Of `asked`; `schema` holds the fields that real and synthetic images share."""

    def __init__(self, asked: Asked):
        self.asked, self.store = asked, Store(asked.out)
        if asked.features != "labeller":
            self.extractor  # noqa: B018  what cannot be read is said before all else
        self.manifest = records.load_manifest(asked.real)
        self.source = self._source()
        known = self.source.schema if self.source else self.manifest.schema
        names = [n for n in known.names if n in self.manifest.schema.names]
        if [self.manifest.schema[n] for n in names] != list(known):
            raise ValueError(
                f"--real {asked.real}: its fields are not those of the model; expected "
                f"{', '.join(known.names)}, defined alike."
            )
        self.schema = known
        self.fields = known.select(asked.fields or known.names)
        self.test = self._records(asked.real, "test")
        self.made = (
            reading.open_folder(asked.synthetic, known) if asked.synthetic else None
        )
        if self.source and self.source.size != self.test.size:
            raise ValueError(
                f"--real {asked.real}: images of {self.test.size} px, but the model "
                f"makes {self.source.size} px; convert with --size {self.source.size}."
            )

    def _source(self) -> sources.Source | None:
        asked = self.asked
        if asked.synthetic:
            return None
        return sources.open_source(
            asked.workdir, asked.sampler, asked.steps, checkpoint=asked.checkpoint
        )

    def _records(self, place: str, split: str) -> Images:
        images = of_records(place, split, self.schema, self.asked.real_count)
        if len(images) < LEAST_IMAGES:
            raise ValueError(
                f"{place}: {len(images)} images in split {split}; expected "
                f"{LEAST_IMAGES} or more."
            )
        return images

    @functools.cached_property
    def train(self) -> Images:
        return self._records(self.asked.real, "train")

    @functools.cached_property
    def training(self) -> Images:
        """What the model was trained on."""
        images = self._records(self.asked.training or self.asked.real, "train")
        if images.size != self.test.size:
            raise ValueError(
                f"--training {self.asked.training}: images of {images.size} px; "
                f"expected {self.test.size} px, as --real has."
            )
        return images

    @property
    def model_sha256(self) -> str | None:
        return self.source.model_hash if self.source else self.made.model_sha256

    @property
    def guidance(self) -> float | None:
        if not self.source:
            return None
        given = self.asked.guidance
        return finite("guidance", self.source.guidance if given is None else given)

    def request(self) -> dict[str, str]:
        """What one folder is about; words for people."""
        real = self.manifest.fingerprint()
        training = self.asked.training
        made = (
            f"{self.model_sha256}, guidance {self.guidance:g}, {self.source.steps} "
            f"steps, seed {self.asked.seed}"
            if self.source
            else self.made.identity
        )
        return {
            "--real": real,
            "--training": records.load_manifest(training).fingerprint()
            if training
            else real,
            "synthetic images": made,
            "--count": str(self.count),
            "--real_count": str(self.asked.real_count),
        }

    @property
    def count(self) -> int:
        """Of synthetic images."""
        if self.made is None:
            return self.asked.count or DEFAULT_COUNT
        return min(self.asked.count or len(self.made.rows), len(self.made.rows))

    # ---- synthetic images ----

    @functools.cached_property
    def synthetic(self) -> Images:
        if self.made is not None:
            images = self._read(self.made)
            if self.count < len(images):
                images = images.take(np.arange(self.count))
            return images
        rows, _ = self.drawn
        place = self.asked.out if self.rows_are_shown else self.store.private
        return self.sample(rows, place / "synthetic", self.asked.seed)

    @property
    def rows_are(self) -> str:
        return self.drawn[1] if self.made is None else "those of the folder"

    @property
    def rows_are_shown(self) -> bool:
        """Whether what was asked of one synthetic image is no patient's row."""
        return self.rows_are != REAL_ROWS

    @functools.cached_property
    def drawn(self) -> tuple[list[dict], str]:
        """Conditions with the joint distribution of held-out ones, and how: no row is
        that of fewer than 11 patients, where there are enough to draw others."""
        rng, count = np.random.default_rng(self.asked.seed), self.count
        cond, patients = records.read_conditions(self.asked.real, "test", self.schema)
        try:
            drawn = Joint.make(self.schema, cond, patients).draw(rng, [count])
            return self.schema.decode(drawn), DRAWN_ROWS
        except ValueError:
            chosen = rng.choice(len(patients), count)
            rows = self.schema.decode({n: v[chosen] for n, v in cond.items()})
            return rows, REAL_ROWS

    def sample(self, rows: Sequence[dict], out: Path, seed: int) -> Images:
        """Images of `rows`, made or gone on with in `out` as `ddpm_jax.sample` does."""
        source, asked = self.source, self.asked
        job = folder.Job(
            out=out,
            asked=list(requests.numbered([(r, None, "") for r in rows], seed, 1)),
            schema=source.schema,
            size=source.size,
            model=requests.Model(source.model_hash, self.guidance, source.steps),
            kind="run" if asked.workdir else "sampler",
            batch=sampler.BATCH,
        )
        if not claim.begin(job, asked.overwrite):
            work.make(job, source)
            folder.finish(job)
        return self._read(reading.open_folder(str(job.out), self.schema))

    def _read(self, made: reading.Made) -> Images:
        if len(made.rows) < LEAST_IMAGES:
            raise ValueError(
                f"{len(made.rows)} synthetic images; expected {LEAST_IMAGES} or more."
            )
        size = self.test.size
        reading.read(made.files[0], size)
        return Images(
            self.schema,
            self.schema.encode(made.rows),
            size,
            lambda i: reading.read(made.files[i], size),
            made.identity,
        )

    # ---- what was read of them ----

    @property
    def labeller_steps(self) -> int:
        return labeller.steps_of(self.asked.epochs, len(self.train))

    @functools.cached_property
    def labeller(self) -> Labeller:
        steps = self.labeller_steps
        inputs = {
            "images": self.train.identity,
            "schema": self.schema.to_json(),
            "steps": steps,
        }
        size = labeller.input_size(self.train.size)

        def make():
            with bar(steps, "labeller", "step") as told:
                return labeller.train(
                    self.train, self.schema, steps=steps, report=told.loss
                ).params

        params = self.store.arrays("labeller", inputs, make)
        return Labeller(self.schema, size, labeller.WIDTH, params)

    def reading(self, images: Images, what: str) -> Reading:
        """What the labeller reads of them."""
        inputs = {"images": images.identity, "labeller": self.labeller.identity}

        def make():
            with bar(len(images), f"reading {what}", "image") as told:
                found = self.labeller.read(images, told.update)
            return (
                {f"p/{n}": p for n, p in found.probabilities.items()}
                | {f"n/{n}": v for n, v in found.numbers.items()}
                | {"features": found.features}
            )

        kept = self.store.arrays(f"reading-{_slug(what)}", inputs, make)
        parts = {
            kind: {n[2:]: v for n, v in kept.items() if n.startswith(kind)}
            for kind in ("p/", "n/")
        }
        return Reading(parts["p/"], parts["n/"], kept["features"])

    @functools.cached_property
    def extractor(self) -> extractors.Extractor:
        asked = self.asked
        if asked.features == "labeller":
            return extractors.of_labeller(self.labeller)
        if asked.features == "inception":
            return extractors.of_inception(asked.weights)
        return extractors.of_onnx(
            asked.features, asked.layer, asked.normalise, asked.feature_size
        )

    def features(self, images: Images, what: str) -> np.ndarray:
        """[n, d] of the extractor that was asked for."""
        if self.asked.features == "labeller":
            return self.reading(images, what).features
        inputs = {"images": images.identity, "extractor": self.extractor.identity}

        def make():
            with bar(len(images), f"features of {what}", "image") as told:
                return {"features": self.extractor.features(images, told.update)}

        return self.store.arrays(f"features-{_slug(what)}", inputs, make)["features"]

    @functools.cached_property
    def counted(self) -> Conditions:
        """Of held-out images, what is counted: `groups.counted`."""
        return groups.counted(self.schema, self.test.cond)

    @functools.cached_property
    def subgroups(self) -> list[tuple[groups.Group, groups.Group]]:
        """Of held-out and of synthetic images."""
        return groups.groups(self.schema, self.test.cond, self.synthetic.cond)


def _slug(text: str) -> str:
    return text.replace(" ", "-")


def mirrored(images: Images) -> Images:
    digest = hashlib.sha256(f"mirror {images.identity}".encode()).hexdigest()

    def read(i: int) -> np.ndarray:
        return np.ascontiguousarray(images.read(i)[:, ::-1])

    return Images(images.schema, images.cond, images.size, read, digest)


def categorical(schema: Schema, names: Sequence[str], flag: str) -> tuple[str, ...]:
    """`names`, all of them categorical; ValueError otherwise."""
    for field in schema.select(names):
        if field.kind != "categorical":
            raise ValueError(f"{flag} {field.name}: expected categorical fields.")
    return schema.select(names).names


def categories(schema: Schema) -> Schema:
    """Its categorical fields; ValueError where there is none."""
    chosen = [f.name for f in schema if f.kind == "categorical"]
    if not chosen:
        raise ValueError("--fields: expected a categorical field among them.")
    return schema.select(chosen)
