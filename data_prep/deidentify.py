"""From a picture and a label row to a typed record that names nobody.

Ids are HMAC-SHA256 under a key that is in no output, cut to 16 bytes: without the key
neither a PatientID nor a file can be looked up by trying.
"""

import hmac
import os
import secrets
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from data_prep.codes import Rejected
from data_prep.picture import Picture
from ddpm_jax.data import records

ENVIRONMENT = "DDPM_JAX_KEY"
BITS = 12
OLDEST = 90
LEAST_KEY = 16


class Ids:
    """Keyed pseudonyms; a patient, a file and a picture never share one."""

    def __init__(self, key: bytes):
        self._key = key

    def _hmac(self, kind: str, value: bytes) -> bytes:
        return hmac.digest(self._key, kind.encode() + b"|" + value, "sha256")[:16]

    def patient(self, identity: str) -> bytes:
        """`identity` is issuer|PatientID."""
        return self._hmac("patient", identity.encode())

    def file(self, relative_path: str) -> str:
        """What logs and the ledger call an input; hex."""
        return self._hmac("file", os.fsencode(relative_path)).hex()

    def record(self, digest: bytes) -> bytes:
        """The same picture has the same id, however and wherever it was stored."""
        return self._hmac("record", digest)

    def key_id(self) -> str:
        """Tells whether two data sets used one key, and nothing of the key."""
        return self._hmac("key", b"").hex()[:16]


def make_key(path: Path) -> None:
    """A new random key in a file that only its owner can read."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        number = os.open(path, flags, 0o600)
    except FileExistsError:
        raise ValueError(
            f"--make_key = {path}: there already; a data set can only be continued "
            "with the key it was begun with, so it is not replaced."
        ) from None
    with os.fdopen(number, "w") as file:
        file.write(secrets.token_hex(32) + "\n")


def load_key(path: Path | None, out: Path) -> bytes:
    """The key from `path`, else from the environment. ValueError NO_KEY."""
    if path is None:
        key = os.environ.get(ENVIRONMENT, "").strip().encode()
        if len(key) < LEAST_KEY:
            raise ValueError(
                "NO_KEY: the pseudonyms need a secret key; expected --key_file FILE "
                "(make one: python -m data_prep.convert --make_key FILE) or at least "
                f"{LEAST_KEY} characters in the environment variable {ENVIRONMENT}."
            )
        return key
    if not path.is_file():
        raise ValueError(
            f"NO_KEY: --key_file = {path}: no such file; make one with "
            "python -m data_prep.convert --make_key FILE."
        )
    if path.resolve().is_relative_to(out.resolve()):
        raise ValueError(
            f"NO_KEY: --key_file = {path} lies inside --out = {out}; expected it "
            "elsewhere, since whoever holds both can find the patients."
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ValueError(
            f"NO_KEY: --key_file = {path}: others may read it; expected mode 600 "
            f"(chmod 600 {path})."
        )
    key = path.read_bytes().strip()
    if len(key) < LEAST_KEY:
        raise ValueError(
            f"NO_KEY: --key_file = {path}: {len(key)} bytes; expected {LEAST_KEY} or "
            "more."
        )
    return key


def random_key() -> bytes:
    """A key that nobody keeps, for a dry run."""
    return secrets.token_bytes(32)


def safe_row(row: Mapping) -> dict:
    """Conditions as they may be kept: age over 89 is 90, BMI to 0.1."""
    row = dict(row)
    if row.get("age") is not None:
        row["age"] = min(row["age"], OLDEST)
    if row.get("bmi") is not None:
        row["bmi"] = round(row["bmi"], 1)
    return row


def build_record(
    picture: Picture,
    row: Mapping,
    *,
    ids: Ids,
    patient_key: bytes,
    codec: str,
    bits: int = BITS,
    flags: Iterable[str] = (),
) -> records.Record:
    """The record of a picture; nothing that is not named here can get in. Raises
    Rejected."""
    pixels = picture.pixels
    image = records.encode_image(pixels, codec, bits)
    if not np.array_equal(records.decode_image(image, codec), pixels):
        raise Rejected("ENCODE_ERROR")
    return records.Record(
        record_id=ids.record(picture.digest),
        patient_key=patient_key,
        image=image,
        codec=codec,
        bits=bits,
        height=pixels.shape[0],
        width=pixels.shape[1],
        content_box=picture.box,
        original_rows=picture.original[0],
        original_columns=picture.original[1],
        spacing_mm=picture.spacing_mm,
        voi_source=picture.voi_source,
        inverted=picture.inverted,
        flags=records.flag_bits({*picture.flags, *flags}),
        output_hash=records.image_hash(pixels),
        row=safe_row(row),
    )
