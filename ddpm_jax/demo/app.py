"""The page: settings on the left, images on the right, and an API beside them."""

import itertools
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import NamedTuple, no_type_check

import gradio as gr

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.demo import api, asking, controls, downloads, viewer, words
from ddpm_jax.demo.asking import Limits, Setting
from ddpm_jax.demo.studio import Studio

BANNER = (
    "<b>Synthetic images.</b> They show no patient and are <b>not for diagnosis</b>."
)
DEVICE = {"concurrency_id": "device", "concurrency_limit": 1}
"""Of events that sample: one at a time, the others wait in the queue."""

PRIVATE = {"api_visibility": "private"}
DOWNLOAD = """(file) => {
  if (!file) return;
  const link = document.createElement("a");
  link.href = file.url;
  link.download = file.orig_name;
  link.click();
}"""
NEXT_SEED = "(seed, count) => (Number(seed) + Number(count)) % 4294967296"
EXAMPLE = "AP pelvis, right hip prosthesis, 67-year-old woman, BMI 31"


class Panel(NamedTuple):
    """The components of one setting; `read` holds the prompt that was last read."""

    prompt: gr.Textbox
    understood: gr.HTML
    read: gr.State
    fields: list
    guidance: gr.Slider
    steps: gr.Radio
    typical: gr.Button

    @property
    def inputs(self) -> list:
        return [self.prompt, self.read, *self.fields, self.guidance, self.steps]

    @property
    def outputs(self) -> list:
        return [self.understood, self.read, *self.fields]


class Shown(NamedTuple):
    """What the viewer shows, so that it can be downloaded."""

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]


def asset(name: str) -> str:
    return (resources.files("ddpm_jax.demo") / name).read_text()


def build(studio: Studio, limit: Limits) -> gr.Blocks:
    """The page and its API, not yet served."""
    return Page(studio, limit).blocks


class Page:
    """Components, and what happens when they are used."""

    def __init__(self, studio: Studio, limit: Limits):
        self.studio, self.limit = studio, limit
        self.schema: Schema = studio.sampler.schema
        with gr.Blocks(
            title="Synthetic radiographs",
            fill_width=True,
            analytics_enabled=False,
            delete_cache=(600, 3600),
        ) as self.blocks:
            self._lay_out()
            self._connect()
            api.add(studio, limit, DEVICE)

    # ---- Layout ----

    def _lay_out(self):
        gr.HTML(BANNER, elem_id="banner", padding=False)
        with gr.Row(elem_id="page", equal_height=False):
            with gr.Column(elem_id="settings", scale=0, min_width=380):
                with gr.Column(elem_id="scroll"):
                    self.edited = gr.Radio(
                        ["A", "B"],
                        value="A",
                        label="setting",
                        interactive=True,
                        elem_id="edited",
                        elem_classes=["field"],
                    )
                    row = controls.typical(self.schema, random.Random(1))
                    self.panels = [self._panel("A", row), self._panel("B", row)]
                self._actions()
            with gr.Column(elem_id="images", scale=1, min_width=320):
                self.viewer = gr.HTML(
                    viewer.EMPTY,
                    html_template=asset("viewer.html"),
                    js_on_load=asset("viewer.js"),
                    elem_id="viewer",
                    apply_default_css=False,
                )
        self.shown = gr.State(None, time_to_live=3600)
        self.file = gr.File(visible="hidden")

    def _panel(self, name: str, row: Mapping) -> Panel:
        sampler = self.studio.sampler
        with gr.Column(elem_id=f"panel-{name}", elem_classes=["panel"]):
            prompt = gr.Textbox(
                label="In words (Enter fills in the fields)",
                placeholder=EXAMPLE,
                max_length=asking.LONGEST_PROMPT,
                elem_classes=["prompt"],
            )
            understood = gr.HTML("", elem_classes=["understood"])
            typical = gr.Button(
                "Random typical patient", size="sm", elem_classes=["typical"]
            )
            fields = controls.make(self.schema, row)
            guidance = gr.Slider(
                0,
                self.limit.guidance,
                value=sampler.guidance,
                step=0.1,
                label="guidance",
                buttons=[],
                elem_classes=["amount", "plain", "guidance"],
            )
            steps = gr.Radio(
                list(self.limit.steps),
                value=sampler.steps,
                label="steps",
                elem_classes=["field", "steps"],
            )
        return Panel(prompt, understood, gr.State(""), fields, guidance, steps, typical)

    def _actions(self):
        with gr.Column(elem_id="actions"):
            self.status = gr.HTML("", elem_id="status")
            with gr.Row(elem_classes=["numbers"]):
                self.seed = gr.Number(0, label="seed", min_width=90, elem_id="seed")
                self.count = gr.Number(1, label="images", min_width=70, elem_id="count")
                self.compare = gr.Checkbox(
                    False, label="compare A and B", min_width=110, elem_id="compare"
                )
            with gr.Row(elem_classes=["buttons"]):
                self.sample = gr.Button("Sample", variant="primary", elem_id="sample")
                self.next = gr.Button("Next seed", elem_id="next", min_width=90)
                self.stop = gr.Button("Stop", elem_id="stop", min_width=60)

    # ---- Events ----

    def _connect(self):
        everything = [self.compare, self.seed, self.count]
        outputs = [self.viewer, self.status, self.shown]
        for panel in self.panels:
            everything += panel.inputs
            outputs += panel.outputs
        options = {
            "fn": self.on_sample,
            "inputs": everything,
            "outputs": outputs,
            "show_progress": "minimal",
            "show_progress_on": self.status,
            **DEVICE,
            **PRIVATE,
        }
        runs = [self.sample.click(**options)]
        both = [self.seed, self.count]
        following = self.next.click(
            fn=None, js=NEXT_SEED, inputs=both, outputs=self.seed, **PRIVATE
        )
        runs.append(following.then(**options))
        for panel in self.panels:
            self._connect_panel(panel, options, runs)
        self.stop.click(fn=None, cancels=runs, **PRIVATE)
        first, second = self.panels
        self.compare.change(
            self.on_compare,
            [self.compare, *first.inputs],
            [self.edited, *second.inputs, second.understood],
            queue=False,
            **PRIVATE,
        )
        self.viewer.select(
            self.on_download,
            self.shown,
            [self.file, self.status],
            show_progress="minimal",
            show_progress_on=self.status,
            **DEVICE,
            **PRIVATE,
        ).success(fn=None, js=DOWNLOAD, inputs=self.file, **PRIVATE)

    def _connect_panel(self, panel: Panel, options: dict, runs: list):
        panel.prompt.submit(
            self.on_prompt, panel.prompt, panel.outputs, queue=False, **PRIVATE
        )
        filled = panel.typical.click(
            self.on_typical,
            outputs=[panel.prompt, *panel.outputs],
            queue=False,
            **PRIVATE,
        )
        runs.append(filled.then(**options))

    def on_prompt(self, text: str) -> list:
        """The fields as the prompt says, or why it cannot be read."""
        try:
            return self._filled(text)
        except ValueError as error:
            kept = [gr.skip()] * (len(self.panels[0].outputs) - 1)
            return [words.alert(error), *kept]

    def _filled(self, text: str) -> list:
        if not text.strip():
            return ["", "", *[gr.skip()] * len(self.panels[0].fields)]
        prompt = asking.read_prompt(text, self.schema)
        return [
            words.chips(prompt.understood, self.schema),
            text,
            *controls.show(prompt.row, self.schema),
        ]

    def on_typical(self) -> list:
        row = controls.typical(self.schema, random.Random())
        return ["", "", "", *controls.show(row, self.schema)]

    def on_compare(self, compare: bool, *values) -> list:
        """B begins as a copy of A, ready to be changed."""
        return ["B" if compare else "A", *values, ""]

    @no_type_check  # Gradio asks if this is a generator; wrapped by a checker it is not
    def on_sample(self, compare, seed, count, *values) -> Iterator[dict]:
        """Settings as the controls or a new prompt say; then the images, as they come
        out of the noise."""
        settings, filled = [], {}
        size = len(self.panels[0].inputs)
        used = self.panels if compare else self.panels[:1]
        try:
            for panel, start in zip(used, itertools.count(0, size), strict=False):
                setting, update = self._setting(panel, values[start : start + size])
                settings.append(setting)
                filled |= update
            seeds = asking.read_seeds(seed, count, self.limit)
        except ValueError as error:
            yield {self.status: words.alert(error)} | filled
            return
        started = time.monotonic()
        for views in self._views(settings, seeds):
            told = viewer.told(settings, views, seeds, self.schema)
            said = words.progress(told["progress"], settings, len(seeds), started)
            yield {self.viewer: told, self.status: said} | filled
            filled = {}
        yield {self.shown: Shown(tuple(settings), tuple(seeds))}

    def _setting(self, panel: Panel, values: Sequence) -> tuple[Setting, dict]:
        """What a panel says, and what a prompt that was not yet read changes in it."""
        text, read, *fields, guidance, steps = values
        text, filled = text or "", {}
        if text.strip() and text != read:
            new = self._filled(text)
            fields = new[2:]
            filled = dict(zip(panel.outputs, new, strict=True))
        row = controls.read(fields, self.schema)
        if text.strip() and asking.read_prompt(text, self.schema).row != row:
            text = ""
        setting = asking.read_setting(
            row, guidance, steps, schema=self.schema, limit=self.limit, prompt=text
        )
        return setting, filled

    def _views(self, settings, seeds) -> Iterator[list]:
        """The latest view of each setting, whenever one is new, both side by side."""
        streams = [self.studio.watch(setting, seeds) for setting in settings]
        latest = [None] * len(settings)
        for views in itertools.zip_longest(*streams):
            latest = [new or old for new, old in zip(views, latest, strict=True)]
            yield latest

    def on_download(self, shown: Shown | None, event: gr.EventData) -> list:
        """One image of the viewer, or all of them, as a file."""
        try:
            if shown is None:
                raise ValueError("download: nothing is shown, or it was an hour ago.")
            kind, index = event._data["format"], event._data["index"]
            items = self._items(shown)
            chosen = items if index is None else [items[int(index)]]
            sha = self.studio.model_sha256
            return [str(downloads.write(chosen, kind, self.schema, sha)), gr.skip()]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            return [None, words.alert(error)]

    def _items(self, shown: Shown) -> list[downloads.Item]:
        made = [self.studio.images(s, shown.seeds) for s in shown.settings]
        return [
            downloads.Item(images[i], setting, seed)
            for i, seed in enumerate(shown.seeds)
            for images, setting in zip(made, shown.settings, strict=True)
        ]
