"""The made-up archive: who is X-rayed how, each picture's DICOM file, the labels."""

import csv
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.phantom import anatomy, detector, instance, projector
from data_prep.phantom.patient import SIDES as HIPS
from data_prep.phantom.patient import Patient, draw_patient
from data_prep.phantom.positioning import Shot, frame

COLUMNS = (
    "file", "sop_instance_uid", "patient_id", "view", "side", "prosthesis_right",
    "prosthesis_left", "age", "sex", "bmi",
)  # fmt: skip
VIEWS = {"AP": 0.5, "lateral": 0.25, "oblique": 0.25}
SIDES = ("right", "left", "both")
MISSING = 0.03


def stream(seed: int, *address: int) -> np.random.Generator:
    """The random numbers at an address: the same whatever else was drawn."""
    sequence = np.random.SeedSequence(seed, spawn_key=address)
    return np.random.Generator(np.random.Philox(sequence))


def plan(seed: int, count: int) -> list[Shot]:
    """`count` shots, patient after patient; a shorter plan is a prefix of a longer.

    60 % of patients have one picture, 25 % two, 15 % three, no two of the same view
    and side. View: AP a half, lateral and oblique a quarter each; side: a third each.
    """
    shots, patient = [], 0
    while len(shots) < count:
        rng = stream(seed, patient, 0)
        wanted, seen = int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])), []
        while len(seen) < wanted:
            view = str(rng.choice(list(VIEWS), p=list(VIEWS.values())))
            side = SIDES[rng.integers(3)]
            if (view, side) not in seen:
                seen.append((view, side))
        shots += [Shot(patient, i, *what) for i, what in enumerate(seen)]
        patient += 1
    return shots[:count]


def point_pitch(side: str, size: int) -> float:
    """Edge, mm, of the bones' sampling: a little over a pixel, 0.9 at the finest."""
    field = 375 if side == "both" else 190
    return float(np.clip(1.25 * field / size, 0.9, 3.0))


class Picture(NamedTuple):
    """A displayed radiograph [size, size] in [0, 1], its camera, mm between pixels."""

    pixels: np.ndarray
    camera: projector.Camera
    pitch: float


def radiograph(patient: Patient, shot: Shot, size: int, rng) -> Picture:
    """The picture of a patient; all else in it comes from `rng`.

    Its bits do not depend on what lies outside the field.
    """
    geometry, exposing, marking, grain = rng.spawn(4)
    camera, legs = frame(shot.view, shot.side, geometry)
    pitch = point_pitch(shot.side, size)
    scene = anatomy.build_scene(patient, legs, pitch, camera.sees)
    found = projector.attenuate(scene, camera, size, pitch)
    found = projector.Attenuation(*(part * np.float32(patient.scale) for part in found))
    lead = _lead(shot, camera, size, marking)
    exposure = detector.draw_exposure(exposing)
    field = camera.field * patient.scale
    pixels = detector.display(found, exposure, lead, field, grain)
    return Picture(pixels, camera, field / size)


def _lead(shot, camera, size, rng):
    """The side's letter, where that side is; in laterals in front or behind."""
    side = shot.side
    if side == "both":
        either = "right" if rng.random() < 0.5 else "left"
        side = "right" if shot.view == "lateral" else either
    low, far = (bool(x) for x in rng.random(2) < 0.45)
    if shot.view != "lateral":
        low, far = low and shot.side != "both", side == "left"
    return detector.marker(side[0].upper(), (low, far), size, rng)


def labels(shot: Shot, patient: Patient, known: instance.Known, file, sop, person):
    """The picture's row of labels.csv."""
    metal = {
        name: ("yes" if patient.prosthesis[name] else "no")
        if shot.side in (name, "both")
        else "not in view"
        for name in HIPS
    }
    age, sex, bmi = patient.age, patient.sex, f"{patient.bmi:.1f}"
    facts = [
        fact if told else "" for fact, told in zip((age, sex, bmi), known, strict=True)
    ]
    values = (file, sop, person, shot.view, shot.side, metal["right"], metal["left"])
    return dict(zip(COLUMNS, (*values, *facts), strict=True))


def write_image(out: str, seed: int, size: int, replaced: float, shot: Shot) -> dict:
    """Make, write (whole or not at all) and label one picture of the archive."""
    patient = draw_patient(stream(seed, shot.patient, 1), replaced)
    person = stream(seed, shot.patient, 3)
    drawing, heading = stream(seed, shot.patient, 2, shot.number).spawn(2)
    picture = radiograph(patient, shot, size, drawing)
    known = instance.Known(*(bool(told) for told in heading.random(3) >= MISSING))
    dataset = instance.header(seed, shot, patient, known, person, heading)
    instance.place(dataset, shot, picture.camera, picture.pitch)
    instance.fill(dataset, picture.pixels, heading)
    file = f"images/{shot.patient:06d}/{shot.number:02d}.dcm"
    instance.save(dataset, Path(out) / file)
    sop, name = str(dataset.SOPInstanceUID), str(dataset.PatientID)
    return labels(shot, patient, known, file, sop, name)


def write_labels(path: Path, rows) -> None:
    """labels.csv: comma-separated, a header, LF; a cell is empty where not known."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    instance.replace(path, text.getvalue().encode())
