"""What an evaluation was asked for."""

import dataclasses
from pathlib import Path

PARTS = (
    *("fidelity", "manifold", "spectrum", "agreement", "memorization"),
    "usefulness",
)


@dataclasses.dataclass(frozen=True)
class Asked:
    """The flags of `python -m ddpm_jax.evaluate`, which says what they mean."""

    real: str
    out: Path
    training: str | None = None
    synthetic: str | None = None
    workdir: str | None = None
    sampler: str | None = None
    checkpoint: str = "latest"
    parts: tuple[str, ...] = PARTS
    count: int | None = None
    real_count: int = 20_000
    seed: int = 0
    guidance: float | None = None
    steps: int | None = None
    epochs: int = 6
    fields: tuple[str, ...] = ()
    balance: tuple[str, ...] = ()
    features: str = "labeller"
    weights: str | None = None
    layer: str | None = None
    normalise: str = "none"
    overwrite: bool = False

    def __post_init__(self):
        given = [self.synthetic, self.workdir, self.sampler]
        if sum(map(bool, given)) != 1:
            raise ValueError("expected one of --synthetic, --workdir and --sampler.")
        if self.checkpoint != "latest" and not self.workdir:
            raise ValueError(f"--checkpoint {self.checkpoint}: expected --workdir.")
        if unknown := sorted(set(self.parts) - set(PARTS)) or not self.parts:
            said = ", ".join(unknown) if unknown is not True else ""
            raise ValueError(f"--parts {said}: expected some of {', '.join(PARTS)}.")
        if self.features not in ("labeller", "inception") and (
            Path(self.features).suffix != ".onnx"
        ):
            raise ValueError(
                f"--features {self.features}: expected labeller, inception or a "
                "file.onnx."
            )
