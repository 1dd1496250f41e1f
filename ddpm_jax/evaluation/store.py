"""The folders of an evaluation: OUT, which may be shown, and OUT.private beside it, its
owner's alone, for what was read of each real image.

What is finished is kept there under a name that its inputs give it, so that the same
command goes on where it was, and one with more parts adds to it.
"""

import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from ddpm_jax.data import shards

REQUEST, METRICS, REPORT = "request.json", "metrics.json", "report.html"
LOCK = "lock"
TEMPORARY = "*.[0-9a-f]*-[0-9a-f]*.tmp"
"""As `shards.temporary` names it."""


class Store:
    """For one pair of real and synthetic images."""

    def __init__(self, out: Path):
        out = out if out.name.strip(".") else out.resolve()
        self.out, self.private = out, out.with_name(f"{out.name}.private")

    @contextlib.contextmanager
    def begin(self, request: Mapping[str, str], overwrite: bool) -> Iterator[None]:
        """ValueError where OUT holds something else than an evaluation of the same
        images, unless `overwrite`; of that, nothing that is not ours is removed.

        Inside, no other process evaluates into OUT; a killed one lets go."""
        self._make(request, overwrite)
        busy = f"--out {self.out}: another evaluation is at work there"
        with shards.alone(self.private / LOCK, busy):
            if read(self.out / REQUEST) != request:
                for name in (METRICS, REPORT):
                    (self.out / name).unlink(missing_ok=True)
                self.write(REQUEST, _dump(request))
            for folder in (self.out, self.private):
                for partial in folder.glob(TEMPORARY):
                    partial.unlink()  # of a process that was killed as it wrote
            yield

    def _make(self, request: Mapping[str, str], overwrite: bool) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"--out {self.out}: a file; expected a folder.")
        before = read(self.out / REQUEST)
        ours = before is not None and set(before) >= {"--real", "--training"}
        if not ours and any((self.out / name).exists() for name in (REQUEST, REPORT)):
            raise ValueError(
                f"--out {self.out}: the folder of another command, which would be "
                "written over; expected another."
            )
        if before != request and not overwrite:
            if before is not None:
                differing = [k for k in request if before.get(k) != request[k]]
                raise ValueError(
                    f"--out {self.out}: an evaluation of something else "
                    f"({', '.join(differing)}); expected another folder or --overwrite."
                )
            if self.out.exists() and any(self.out.iterdir()):
                raise ValueError(
                    f"--out {self.out}: not empty; expected another or --overwrite."
                )
        self.out.mkdir(parents=True, exist_ok=True)
        self.private.mkdir(exist_ok=True, mode=0o700)
        self.private.chmod(0o700)

    def write(self, name: str, content: str | bytes) -> None:
        shards.write_atomically(self.out / name, content)

    def json(self, name: str, inputs: Mapping, make: Callable[[], Mapping]) -> dict:
        """What `make` returned for these inputs, now or before."""
        path = self.private / f"{name}-{key(inputs)}.json"
        kept = read(path)
        if kept is None:
            shards.write_atomically(path, _dump(plain(make())))
            kept = read(path)
        return kept

    def arrays(
        self, name: str, inputs: Mapping, make: Callable[[], Mapping]
    ) -> dict[str, np.ndarray]:
        """The arrays that `make` returned for these inputs, now or before."""
        return arrays(self.private, name, inputs, make)


def arrays(
    folder: Path, name: str, inputs: Mapping, make: Callable[[], Mapping]
) -> dict[str, np.ndarray]:
    """The arrays that `make` returned for these inputs, now or before, kept in
    `folder`; ValueError where they can no longer be read."""
    path = folder / f"{name}-{key(inputs)}.npz"
    if not path.is_file():
        buffer = io.BytesIO()
        np.savez(buffer, **make())
        shards.write_atomically(path, buffer.getvalue())
    try:
        with np.load(path) as kept:
            return dict(kept)
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError):
        raise ValueError(f"{path}: not readable arrays; remove it.") from None


def key(inputs: Mapping) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def plain(value):
    """As JSON has it: lists and numbers of Python's own, NaN as null."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _dump(content) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def read(path: Path) -> dict | None:
    """What a JSON file holds; None where there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise ValueError(f"{path}: not readable JSON; remove it.") from None
