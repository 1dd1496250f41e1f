"""The demo page as a visitor finds it: cold start, and the first image of a warm one.

    python -m benchmarks.demo --sampler quickstart/sampler

Needs the extras [demo] and [dev] and a Chromium at --chromium.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from absl import flags

from ddpm_jax import command_line

FLAGS = command_line.new_flags()
SAMPLER = flags.DEFINE_string(
    "sampler", None, "The folder of an exported sampler.", flag_values=FLAGS
)
CHROMIUM = flags.DEFINE_string(
    "chromium", "/usr/bin/chromium", "The browser.", flag_values=FLAGS
)
REPEATS = flags.DEFINE_integer(
    "repeats", 10, "Clicks on Sample.", lower_bound=1, flag_values=FLAGS
)
PAINTED = """(seed) => {
  const figure = document.querySelector("figure");
  const said = figure?.querySelector(".seed")?.textContent;
  return said === `seed ${seed}` && (%s) && figure.querySelector("canvas").source;
}"""
FIRST, LAST = PAINTED % "true", PAINTED % "figure.classList.contains('ready')"


def start(folder: str, cache: str) -> tuple[subprocess.Popen, str, float]:
    """The server, its address, and the seconds until it said that it is open."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ddpm_jax.demo",
            f"--sampler={folder}",
            f"--port={port}",
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache},
    )
    for line in process.stdout:
        if line.startswith("open "):
            return process, f"http://127.0.0.1:{port}", time.monotonic() - began
    raise ValueError(f"--sampler {folder}: the demo did not start.")


def clicks(page, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds from a click on Sample to the first view of an image, and to the last."""
    first, last = [], []
    for seed in range(1, repeats + 1):
        page.fill("#seed input", str(seed))
        began = time.monotonic()
        page.click("#sample")
        page.wait_for_function(FIRST, arg=seed)
        first.append(time.monotonic() - began)
        page.wait_for_function(LAST, arg=seed)
        last.append(time.monotonic() - began)
    return first, last


def resident(pid: int) -> int:
    """MiB."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20


def main():
    from playwright.sync_api import sync_playwright

    command_line.require(FLAGS, "sampler")
    with tempfile.TemporaryDirectory() as cache:
        process, address, cold = start(SAMPLER.value, cache)
    try:
        with sync_playwright() as playwright:
            options = {"executable_path": CHROMIUM.value, "args": ["--no-sandbox"]}
            page = playwright.chromium.launch(**options).new_page()
            page.goto(address)
            page.wait_for_selector(".viewer .hint")
            first, last = clicks(page, REPEATS.value)
            before = resident(process.pid)
            clicks(page, 3 * REPEATS.value)
            after = resident(process.pid)
    finally:
        process.terminate()
        process.wait()
    print(f"cold start, nothing compiled before: {cold:.1f} s")
    for name, times in (("first view of an image", first), ("finished image", last)):
        middle, most = statistics.median(times), max(times)
        print(f"{name}, from the click: {middle:.2f} s, {most:.2f} s at most")
    print(f"resident after {REPEATS.value} and {4 * REPEATS.value} requests: ", end="")
    print(f"{before} and {after} MiB")


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
