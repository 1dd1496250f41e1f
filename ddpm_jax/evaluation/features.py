"""Images to features, [n, d]: what distances and neighbours are measured in.

`labeller` is our own, trained on the real images at hand, and needs no download;
figures in it cannot be held against those of other papers. `inception` is FID's. Any
ONNX file is a third, DINOv2 among them.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ddpm_jax.data import records
from ddpm_jax.evaluation.images import Images
from ddpm_jax.evaluation.labeller import Labeller

WEIGHTS = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)
INCEPTION_SIZE = 299
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALISE = ("none", "imagenet")
Advance = Callable[[int], object]


class Extractor(NamedTuple):
    """`features(images, advance)` is float32 [n, d]; `identity` changes with it."""

    name: str
    identity: str
    features: Callable[[Images, Advance], np.ndarray]


def to_bytes(image: np.ndarray, size: int) -> np.ndarray:
    """uint16 [h, w] in 0..65535 to uint8 [size, size]: bicubic in float and, where it
    shrinks, antialiased, rounded once (Parmar et al., 2022: it moves FID)."""
    x = Image.fromarray(image.astype(np.float32) / 257)
    if x.size != (size, size):
        x = x.resize((size, size), Image.Resampling.BICUBIC)
    return np.rint(np.clip(np.asarray(x), 0, 255)).astype(np.uint8)


def to_colour(batch: np.ndarray, size: int) -> np.ndarray:
    """uint16 [b, h, w] to uint8 [b, 3, size, size], three equal channels."""
    grey = np.stack([to_bytes(image, size) for image in batch])
    return np.repeat(grey[:, None], 3, axis=1)


def of_labeller(labeller: Labeller) -> Extractor:
    def features(images: Images, advance: Advance) -> np.ndarray:
        return labeller.read(images, advance).features

    return Extractor("labeller", labeller.identity, features)


def of_inception(weights: str | None) -> Extractor:
    """The 2048 features of the Inception network that FID is defined with."""
    if not weights or not Path(weights).is_file():
        raise ValueError(
            f"--weights {weights or 'not given'}: no such file; expected the Inception "
            f"weights of torch-fidelity, from {WEIGHTS}."
        )
    try:
        import torch
        from torch_fidelity.feature_extractor_inceptionv3 import (
            FeatureExtractorInceptionV3,
        )
    except ImportError as error:
        raise ValueError(
            f"--features inception: {error.name} is not installed; expected "
            "pip install 'ddpm_jax[eval]'."
        ) from None
    try:
        torch.load(weights, weights_only=True)  # torch-fidelity would run what is in it
        net = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=weights
        )
    except Exception as error:  # torch's own, many types
        raise ValueError(
            f"--weights {weights}: no weights of this network "
            f"({type(error).__name__}); expected those from {WEIGHTS}."
        ) from None
    net.eval()

    def features(images: Images, advance: Advance) -> np.ndarray:
        found = []
        with torch.no_grad():
            for part in images.batches(32):
                (out,) = net(torch.from_numpy(to_colour(part, INCEPTION_SIZE)))
                found.append(out.numpy())
                advance(len(part))
        return np.concatenate(found)

    return Extractor("inception", records.file_digest(Path(weights)), features)


def of_onnx(path: str, layer: str | None, normalise: str = "none") -> Extractor:
    """The output `layer` (the first) of an ONNX network of one input, [n, c, h, w] of
    1 or 3 channels: bytes as they are, numbers in [0, 1], or, with `imagenet`, less
    that set's mean and by its deviation. Other axes than the first are flattened."""
    import_error = "--features {}: {} is not installed; expected pip install '{}'."
    try:
        import onnxruntime
    except ImportError:
        raise ValueError(
            import_error.format(path, "onnxruntime", "ddpm_jax[eval]")
        ) from None
    if not Path(path).is_file():
        raise ValueError(f"--features {path}: no such file.")
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own, many types
        raise ValueError(
            f"--features {path}: no readable ONNX network ({type(error).__name__})."
        ) from None
    outputs = [out.name for out in session.get_outputs()]
    if layer and layer not in outputs:
        raise ValueError(
            f"--layer {layer}: not an output of {path}; expected one of "
            f"{', '.join(outputs)}."
        )
    wanted, taken = layer or outputs[0], session.get_inputs()[0]
    channels, size = _shape(path, taken)

    def features(images: Images, advance: Advance) -> np.ndarray:
        found = []
        for part in images.batches(32):
            x = to_colour(part, size or images.size)[:, :channels]
            x = _scaled(x, taken.type, normalise)
            out = session.run([wanted], {taken.name: x})[0]
            found.append(np.float32(out).reshape(len(part), -1))
            advance(len(part))
        return np.concatenate(found)

    digest = hashlib.sha256(Path(path).read_bytes())
    digest.update(f"{wanted} {normalise}".encode())
    return Extractor(f"{Path(path).name}:{wanted}", digest.hexdigest(), features)


def _shape(path: str, taken) -> tuple[int, int | None]:
    """Channels, and pixels of a side where they are fixed."""
    shape = taken.shape
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise ValueError(
            f"--features {path}: input {taken.name} of shape {shape}; expected "
            "[n, 1 or 3, h, w]."
        )
    return shape[1], shape[2] if isinstance(shape[2], int) else None


def _scaled(x: np.ndarray, kind: str, normalise: str) -> np.ndarray:
    if kind == "tensor(uint8)":
        return x
    x = x.astype(np.float32) / 255
    if normalise == "imagenet":
        mean, std = (np.float32(v)[: x.shape[1], None, None] for v in IMAGENET)
        x = (x - mean) / std
    return x
