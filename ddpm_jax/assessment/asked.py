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
    epochs: int | None = None
    fields: tuple[str, ...] = ()
    balance: tuple[str, ...] = ()
    features: str = "labeller"
    weights: str | None = None
    layer: str | None = None
    normalise: str = "none"
    feature_size: int | None = None
    overwrite: bool = False

    def __post_init__(self):
        self._check_images()
        self._check_features()

    def _check_images(self):
        given = [self.synthetic, self.workdir, self.sampler]
        if sum(map(bool, given)) != 1:
            raise ValueError("expected one of --synthetic, --workdir and --sampler.")
        if self.checkpoint != "latest" and not self.workdir:
            raise ValueError(f"--checkpoint {self.checkpoint}: expected --workdir.")
        if self.synthetic and (self.guidance is not None or self.steps):
            raise ValueError(
                "--guidance, --steps: of a model; expected --workdir or --sampler "
                "beside them."
            )
        if unknown := sorted(set(self.parts) - set(PARTS)) or not self.parts:
            said = ", ".join(unknown) if unknown is not True else ""
            raise ValueError(f"--parts {said}: expected some of {', '.join(PARTS)}.")

    def _check_features(self):
        onnx = Path(self.features).suffix == ".onnx"
        of_onnx = self.layer, self.feature_size, self.normalise != "none"
        if any(of_onnx) and not onnx:
            raise ValueError(
                "--layer, --normalise, --feature_size: of --features file.onnx alone."
            )
        if self.weights and self.features != "inception":
            raise ValueError("--weights: of --features inception alone.")
        if self.features not in ("labeller", "inception") and not onnx:
            raise ValueError(
                f"--features {self.features}: expected labeller, inception or a "
                "file.onnx."
            )
