"""--conditions: a preset by its name, or a file that adds a lab's own fields to one.

YAML, in which every scalar is a string (yes and no too):

    preset: pelvis
    fields:
      - {kind: binary_per_side, name: osteophytes}
      - {kind: categorical, name: kl_right, values: [0, 1, 2, 3, 4]}

or Python with PRESET and FIELDS of the same form. The preset is pelvis where none is
named. `ddpm_jax.conditions.own` says what a field may be; a config for training holds
the same under config.conditioning.own_fields.
"""

from pathlib import Path

from data_prep.label_map import names_of_python, strings_of_yaml
from ddpm_jax.conditions import own
from ddpm_jax.conditions.presets import PRESETS
from ddpm_jax.conditions.schema import Schema

SUFFIXES = (".yaml", ".yml", ".py")


def load_schema(conditions: str) -> Schema:
    """The schema of --conditions. ValueError says file, field and what is allowed."""
    if conditions in PRESETS:
        return PRESETS[conditions]
    path = Path(conditions)
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise ValueError(
            f"--conditions = {conditions}: expected {', '.join(PRESETS)} or a file "
            f"({', '.join(SUFFIXES)}) that declares fields."
        )
    preset, fields = _read(path)
    if preset not in PRESETS:
        raise ValueError(
            f"{path}: preset = {preset!r}: expected one of {', '.join(PRESETS)}."
        )
    if not fields:
        raise ValueError(f"{path}: no fields; expected a list of them.")
    return own.extend(PRESETS[preset], fields, f"{path}: fields")


def _read(path: Path):
    """(preset, fields) as the file has them."""
    if path.suffix.lower() == ".py":
        names = names_of_python(path, "FIELDS, and PRESET if wanted")
        return names.get("PRESET", "pelvis"), names.get("FIELDS")
    found = strings_of_yaml(path, "fields:, and preset: if wanted")
    if not isinstance(found, dict) or set(found) - {"preset", "fields"}:
        raise ValueError(f"{path}: expected the keys fields, and preset if wanted.")
    return found.get("preset", "pelvis"), found.get("fields")
