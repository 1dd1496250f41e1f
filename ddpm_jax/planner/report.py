"""A plan: what is counted, what the compiler says, what follows from an assumption."""

import dataclasses

from ddpm_jax.planner.devices import GB, TERA, Device
from ddpm_jax.planner.memory import Memory

PREALLOCATED = 0.75
"""Share of a GPU's memory that JAX takes unless XLA_CLIENT_MEM_FRACTION is set."""

SAMPLES = 1000
HEADER = (
    "| config | image | batch | devices | parameters | GFLOP forward / step "
    "| GB per device | fits | compiled by | images/s | device-hours | s per 1000 |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|\n"
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """FLOPs are of one image; `share` of the peak is assumed, nothing here is timed."""

    config: str
    size: int
    batch: int
    device: str
    count: int
    share: float
    images: int
    compiler: str
    parameters: int
    forward: int
    forward_by_xla: float
    step: int
    step_by_xla: float
    sample: int
    sampler_steps: int
    guided_steps: int
    memory: Memory
    limits: Device

    @property
    def fits(self) -> bool:
        total = self.memory.total
        return total is not None and total <= self.limits.memory

    @property
    def images_per_second(self) -> float:
        """Of training, on all devices."""
        return self.count * self.share * self.limits.peak / self.step

    @property
    def device_hours(self) -> float:
        return self.images / self.images_per_second * self.count / 3600

    @property
    def evaluations(self) -> int:
        """Of the network for one sample: a step with joint guidance asks it twice."""
        return round(self.sample / self.forward)

    @property
    def seconds_per_1000(self) -> float:
        """Of sampling, on one device."""
        return SAMPLES * self.sample / (self.share * self.limits.peak)

    def to_json(self) -> dict:
        """Fields and what follows from them, in FLOPs, bytes, seconds and hours."""
        derived = ("fits", "images_per_second", "device_hours", "evaluations")
        memory = self.memory._asdict() | {"total": self.memory.total}
        return dataclasses.asdict(self) | {
            "memory": memory,
            "limits": self.limits._asdict(),
            "seconds_per_1000": self.seconds_per_1000,
            **{name: getattr(self, name) for name in derived},
        }


def table(plan: Plan) -> str:
    """The plan for a person."""
    steps = f"{plan.sampler_steps} steps, {plan.guided_steps} guided"
    one = plan.images_per_second / plan.count
    counted = [
        ("parameters", f"{plan.parameters:,}", ""),
        ("forward", _si(plan.forward, "FLOP"), _xla(plan.forward_by_xla)),
        ("training step", _si(plan.step, "FLOP"), _xla(plan.step_by_xla)),
        (
            "sample",
            _si(plan.sample, "FLOP"),
            f"{plan.evaluations} evaluations: {steps}",
        ),
    ]
    assumed = [
        ("training", f"{plan.images_per_second:,.3g} images/s", f"{one:,.3g} on one"),
        (f"{plan.images:,} images", f"{plan.device_hours:,.3g} device-hours", ""),
        (
            f"{SAMPLES} samples",
            f"{plan.seconds_per_1000:,.3g} s",
            "on one device",
        ),
    ]
    peak = f"{plan.limits.peak / TERA:g} TFLOP/s ({plan.limits.source})"
    return "\n".join(
        [
            f"{plan.config}: {plan.size} x {plan.size}, batch {plan.batch} on "
            f"{plan.count} x {plan.device}",
            "",
            "Counted, of one image (FLOPs = 2 x multiply-adds)",
            *_lines(counted),
            "",
            f"On each device, by {plan.compiler}",
            *_lines(_memory(plan)),
            *(f"  {line}" for line in remarks(plan)),
            "",
            f"If {plan.share:.0%} of {peak} is reached:",
            f"  {plan.share:.0%} is an assumption (--share), not a measurement.",
            *_lines(assumed),
        ]
    )


def _memory(plan: Plan) -> list[tuple[str, str, str]]:
    memory = plan.memory
    if memory.total is None:
        verdict = f"does not fit ({memory.refusal})"
    else:
        spare = plan.limits.memory - memory.total
        words = "to spare" if spare >= 0 else "too much: does not fit"
        verdict = f"of {_bytes(plan.limits.memory)}: {_bytes(abs(spare))} {words}"
    return [
        ("parameters", _bytes(memory.parameters), ""),
        ("optimiser", _bytes(memory.optimizer), ""),
        ("averages", _bytes(memory.averages), ""),
        ("batch", _bytes(memory.batch), ""),
        ("gradients", _bytes(memory.gradients), ""),
        ("activations, scratch", _bytes(memory.activations), ""),
        ("in all", _bytes(memory.total), verdict),
    ]


def remarks(plan: Plan) -> list[str]:
    """What must be known before the memory figures are believed."""
    found = []
    if plan.limits.platform != "cpu" and "CPU backend" in plan.compiler:
        found.append(
            "The CPU backend computes bfloat16 in float32 and fuses otherwise: the "
            "device's own compiler (--target, --topology) needed less where both ran."
        )
    total = plan.memory.total
    if plan.limits.platform == "cuda" and plan.fits:
        if total > PREALLOCATED * plan.limits.memory:
            found.append(
                f"JAX takes {PREALLOCATED:.0%} of a GPU unless told otherwise: set "
                "XLA_CLIENT_MEM_FRACTION=0.95."
            )
    return found


def markdown_row(plan: Plan) -> str:
    """One row below `HEADER`."""
    total = plan.memory.total
    needed = "?" if total is None else _short(total / GB)
    fits = "yes" if plan.fits else plan.memory.refusal or "no"
    cells = [
        *(plan.config, f"{plan.size}²", plan.batch, f"{plan.count} x {plan.device}"),
        f"{_short(plan.parameters / 1e6)} M",
        f"{_short(plan.forward / 1e9)} / {_short(plan.step / 1e9)}",
        f"{needed} of {plan.limits.memory / GB:.0f}",
        *(fits, plan.compiler),
        _short(plan.images_per_second),
        _short(plan.device_hours),
        _short(plan.seconds_per_1000),
    ]
    return "| " + " | ".join(map(str, cells)) + " |\n"


def _lines(rows: list[tuple[str, str, str]]) -> list[str]:
    return [f"  {a:<22} {b:>20}   {c}".rstrip() for a, b, c in rows]


def _short(value: float) -> str:
    """Three digits, or all before the point: 0.0541, 28.4, 1,475."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _xla(value: float) -> str:
    return f"XLA counts {_si(value, 'FLOP')}: no padding, but elementwise work"


def _bytes(value: float | None) -> str:
    return "not known" if value is None else _si(value, "B")


def _si(value: float, unit: str) -> str:
    """Four digits and a decimal prefix: 1.469 TFLOP."""
    power = min(4, max(0, (len(f"{value:.0f}") - 1) // 3))
    prefix = ("", "k", "M", "G", "T")[power]
    return f"{value / 1000**power:.4g} {prefix}{unit}"
