"""Package metadata; tools are configured in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (HERE / "ddpm_jax/__init__.py").read_text()
)

setup(
    name="ddpm_jax",
    version=VERSION.group(1),
    description="Conditional diffusion models of radiographs, from DICOM to sampler.",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["ddpm_jax*", "data_prep*", "configs*"]),
    package_data={
        "data_prep": ["*.css"],
        "ddpm_jax": [
            "assessment/*.j2",
            *("demo/*.css", "demo/*.html", "demo/*.js", "demo/sampler/*"),
            "reader_study/page/*",
        ],
    },
    python_requires=">=3.11",
    install_requires=[
        "absl-py>=2.1",  # command-line flags
        "array_record>=0.8",  # the shards
        "clu>=0.0.12",  # metrics and metric writers
        "flatbuffers>=24",  # jax.export needs it and does not ask for it
        "flax>=0.12",  # the networks
        "grain>=0.2.15",  # the input pipeline, with exact continuation
        "imagecodecs>=2025.3",  # DICOM codecs and HTJ2K records, all under BSD
        "jax>=0.9",  # everything numerical
        "jaxtyping>=0.3",  # shapes in signatures
        "jinja2>=3.1",  # the report of an evaluation
        "matplotlib>=3.9",  # the loss curve and the reports' figures
        "ml_collections>=1.0",  # configs
        "numpy>=2.0",
        "optax>=0.2.5",  # the optimiser
        "orbax-checkpoint>=0.11.20",  # checkpoints
        "pandas>=2.2",  # label tables, CSV and Parquet
        "pandera>=0.24",  # checks of label tables
        "pillow>=11.3",  # resizing in float, PNG, contact sheets
        "pydicom>=3.0.1",  # DICOM
        "pyyaml>=6",  # maps of a lab's own labels
        "safetensors>=0.5",  # weights of exported samplers
        "scipy>=1.14",  # intervals, distances, filters; JAX brings it
        "tensorboardX>=2.6",  # TensorBoard events without TensorFlow
        "tensorflow-datasets>=4.9.9",  # the data set's metadata; needs no TensorFlow
        "tqdm>=4.66",  # progress bars
    ],
    extras_require={
        "cuda": ["jax[cuda12]"],  # NVIDIA GPUs
        "tpu": ["jax[tpu]"],  # TPUs
        "beam": ["apache-beam>=2.70"],  # conversion on a cluster's runner
        "demo": ["gradio>=6.31"],  # the page; its HTML components run our viewer
        "film": ["av>=14"],  # films as mp4; the wheel holds its encoder
        "ocr": [  # text burned into images; the wheel holds its models
            "rapidocr-onnxruntime>=1.4.4; python_version < '3.13'",
        ],
        "study": [  # the reader study's server; gradio brings both too
            "starlette>=0.41",
            "uvicorn>=0.32",
        ],
        "eval": [
            "onnxruntime>=1.20",  # features of any ONNX network
            "torch-fidelity>=0.4",  # FID's Inception, and figures to hold ours against
        ],
        "wandb": ["wandb>=0.19"],  # scalars to Weights & Biases, where asked for
        "dev": [
            "beartype>=0.20",  # checks jaxtyping's shapes under pytest
            "highdicom>=0.26",  # the tables of PS3.3 that headers are checked against
            "hypothesis>=6.120",  # property tests
            "import-linter>=2.1",  # the import contracts
            "onnx>=1.17",  # a network for the tests of ONNX features
            "playwright>=1.50",  # drives the pages in a browser that is there
            "pytest>=8.3",
            "pytest-xdist>=3.6",  # tests on both cores
            "ruff>=0.14",  # lint and format
            "scikit-learn>=1.5",  # AUC and kappa, to hold ours against
            "statsmodels>=0.14",  # intervals, Fleiss' kappa and trends, likewise
            "tensorboard>=2.18",  # reads event files back in tests
        ],
    },
)
