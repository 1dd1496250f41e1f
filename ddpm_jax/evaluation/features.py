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
LARGEST = 8192
"""Numbers an image, of which a Fréchet distance takes minutes."""
DTYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
}
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


def of_onnx(
    path: str, layer: str | None, normalise: str = "none", size: int | None = None
) -> Extractor:
    """The output `layer` (the first) of an ONNX network of one input, [n, c, h, w] of
    1 or 3 channels (3 where the file leaves them open): bytes as they are, numbers in
    [0, 1], or, with `imagenet`, less that set's mean and by its deviation. Images are
    resized to what the file says, or to `size` (their own). Other axes of the output
    than the first are flattened."""
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
    wanted = layer or outputs[0]
    taken = _input(path, session)

    def run(part: np.ndarray, side: int) -> np.ndarray:
        x = _scaled(to_colour(part, side)[:, : taken.channels], taken.dtype, normalise)
        try:
            out = np.asarray(session.run([wanted], {taken.name: x})[0], np.float32)
        except Exception as error:  # onnxruntime's own, many types
            raise ValueError(
                f"--features {path}: fails on {len(part)} images of {side} px "
                f"({type(error).__name__}); expected a network that takes them, or "
                "--feature_size, 224 for DINOv2."
            ) from None
        if out.shape[:1] != (len(part),) or out[0].size > LARGEST:
            raise ValueError(
                f"--layer {wanted}: of shape {list(out.shape)} for {len(part)} images; "
                f"expected [{len(part)}, ...] of at most {LARGEST} numbers an image; "
                f"there are {', '.join(outputs)}."
            )
        if not np.isfinite(out).all():
            raise ValueError(f"--layer {wanted}: numbers that are not finite.")
        return out.reshape(len(part), -1)

    def features(images: Images, advance: Advance) -> np.ndarray:
        found = []
        for part in images.batches(min(taken.batch or 32, 32)):
            filled = np.resize(part, (taken.batch or len(part), *part.shape[1:]))
            out = run(filled, taken.size or size or images.size)
            found.append(out[: len(part)])
            advance(len(part))
        return np.concatenate(found)

    digest = hashlib.sha256(Path(path).read_bytes())
    digest.update(f"{wanted} {normalise} {size}".encode())
    return Extractor(f"{Path(path).name}:{wanted}", digest.hexdigest(), features)


class Input(NamedTuple):
    """Of an ONNX network; `batch` and `size` are None where the file leaves them
    open."""

    name: str
    batch: int | None
    channels: int
    size: int | None
    dtype: np.dtype


def _input(path: str, session) -> Input:
    inputs = session.get_inputs()
    taken, shape = inputs[0], inputs[0].shape
    fixed = [n if isinstance(n, int) else None for n in shape]
    good = len(inputs) == 1 and len(fixed) == 4 and fixed[1] in (None, 1, 3)
    if not good or fixed[2] != fixed[3] or taken.type not in DTYPES:
        raise ValueError(
            f"--features {path}: input {taken.name}, {taken.type} of shape {shape}, of "
            f"{len(inputs)}; expected one input [n, 1 or 3, h, h] of "
            f"{', '.join(DTYPES)}."
        )
    batch, channels, size, _ = fixed
    return Input(taken.name, batch, channels or 3, size, np.dtype(DTYPES[taken.type]))


def _scaled(x: np.ndarray, dtype: np.dtype, normalise: str) -> np.ndarray:
    if dtype == np.uint8:
        return x
    x = x.astype(np.float32) / 255
    if normalise == "imagenet":
        mean, std = (np.float32(v)[: x.shape[1], None, None] for v in IMAGENET)
        x = (x - mean) / std
    return x.astype(dtype)
