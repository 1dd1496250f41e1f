"""What gradio_client can call: /schema, /understand and /sample."""

from collections.abc import Mapping

import gradio as gr

from ddpm_jax.demo import asking, downloads
from ddpm_jax.demo.asking import Limits
from ddpm_jax.demo.studio import Studio
from ddpm_jax.outputs.requests import combine


class Api:
    """Plain values in, plain values and files out; mistakes are a `gr.Error`."""

    def __init__(self, studio: Studio, limit: Limits):
        self.studio, self.limit = studio, limit
        self.schema = studio.sampler.schema

    def describe(self) -> dict:
        """The fields that can be asked for, the limits of a request, and the model."""
        sampler = self.studio.sampler
        return {
            "schema": self.schema.to_json(),
            "size": sampler.size,
            "guidance": {"default": sampler.guidance, "most": self.limit.guidance},
            "steps": {"default": sampler.steps, "allowed": list(self.limit.steps)},
            "most_images": self.limit.count,
            "model_sha256": self.studio.model_sha256,
        }

    def understand(self, prompt: str) -> dict:
        """{field: value} of a prompt; None is "not known"."""
        with refusing():
            return asking.read_prompt(_text(prompt), self.schema).row

    def sample(self, prompt, conditions, seed, count, guidance, steps, format):
        """`count` images of a prompt, of {field: value} conditions, or of both, with
        seeds from `seed`: 16-bit PNG or DICOM files, and what was asked of each.

        guidance and steps of None are the model's; format is png or dicom.
        """
        sampler = self.studio.sampler
        with refusing():
            kind = downloads.check_format(format)
            prompt = _text(prompt or "")
            setting = asking.read_setting(
                self._row(prompt, {} if conditions is None else conditions),
                sampler.guidance if guidance is None else guidance,
                sampler.steps if steps is None else steps,
                schema=self.schema,
                limit=self.limit,
                prompt=prompt,
            )
            seeds = asking.read_seeds(seed, count, self.limit)
        images = self.studio.images(setting, seeds)
        items = [
            downloads.Item(image, setting, each)
            for image, each in zip(images, seeds, strict=True)
        ]
        paths = downloads.write_each(items, kind, self.schema, self.studio.model_sha256)
        asked = {"guidance": setting.guidance, "steps": setting.steps} | setting.row
        return list(map(str, paths)), [{"seed": each} | asked for each in seeds]

    def _row(self, prompt: str, conditions) -> dict:
        if not isinstance(conditions, Mapping):
            raise ValueError("conditions: expected a mapping from field to value.")
        stated = self.schema.parse(conditions)
        if not prompt.strip():
            return stated
        row = asking.read_prompt(prompt, self.schema).row
        return combine(row, stated, "conditions", self.schema)


class refusing:
    """A ValueError becomes the one line that a client is told."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if kind is not None and issubclass(kind, ValueError):
            raise gr.Error(str(error), print_exception=False) from None


def _text(value) -> str:
    if not isinstance(value, str):
        raise ValueError("prompt: expected text.")
    return value


def add(studio: Studio, limit: Limits, device: Mapping) -> None:
    """The endpoints, inside the Blocks where this is called."""
    made = Api(studio, limit)
    gr.api(made.describe, api_name="schema", queue=False)
    gr.api(made.understand, api_name="understand", queue=False)
    with gr.Group(visible=False):
        inputs = [
            gr.Textbox("", label="prompt"),
            gr.JSON({}, label="conditions"),
            gr.Number(0, label="seed"),
            gr.Number(1, label="count"),
            gr.Number(studio.sampler.guidance, label="guidance"),
            gr.Number(studio.sampler.steps, label="steps"),
            gr.Textbox("png", label="format"),
        ]
        outputs = [
            gr.File(file_count="multiple", label="files"),
            gr.JSON(label="asked"),
        ]
        gr.Button("sample").click(
            made.sample, inputs, outputs, api_name="sample", **device
        )
