"""The C++ core by itself: no Python and no torch in it, the filter equal to its textbook form, no wild pointer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import benchmark_scripts
from house import ROOT
from track_oracle import oracle

CORE = ROOT / "csrc/tracker"

# One filter after another: "start h" begins one, "predict" and "correct cx cy w h" move it; after each, its numbers.
FILTER = """
#include <cstdio>
#include <cstring>
#include "tracker/kalman.h"
using namespace svm::tracker;
static Box box(double x, double y, double w, double h) { return {x - w / 2, y - h / 2, x + w / 2, y + h / 2}; }
int main() {
  BoxFilter filter{};
  char verb[16];
  double x, y, w, h;
  while (std::scanf("%15s %lf %lf %lf %lf", verb, &x, &y, &w, &h) == 5) {
    if (!std::strcmp(verb, "start")) filter = BoxFilter::start(box(x, y, w, h));
    if (!std::strcmp(verb, "predict")) filter.predict();
    if (!std::strcmp(verb, "correct")) filter.correct(box(x, y, w, h));
    for (const Axis& a : {filter.x, filter.y, filter.aspect, filter.height})
      std::printf("%.17g %.17g %.17g %.17g %.17g ", a.position, a.velocity, a.position_variance, a.covariance,
                  a.velocity_variance);
    std::printf("\\n");
  }
}
"""

# Random frames, wild ones among them: sizes from 1e-30 to 1e30, everything at one place, thousands of labels.
FUZZ = """
#include <cmath>
#include <cstdio>
#include <random>
#include "tracker/byte_tracker.h"
using namespace svm::tracker;
int main() {
  std::mt19937 dice(7);
  const auto uniform = [&](double a, double b) { return std::uniform_real_distribution<double>(a, b)(dice); };
  ByteTracker tracker({0.6f, 0.1f, 0.7f, 0.1, 0.5, 0.3, 3, 8});
  size_t most = 0, coasted = 0;
  for (int frame = 0; frame < 3000; ++frame) {
    const int count = dice() % 10 ? dice() % 25 : 0, mode = dice() % 4;
    const double scale = mode == 1 ? std::pow(10.0, uniform(-30, 30)) : 100.0;
    std::vector<float> boxes, scores;
    std::vector<int64_t> labels;
    for (int row = 0; row < count; ++row) {
      const double x = mode == 2 ? 0 : uniform(-3, 3) * scale, y = mode == 2 ? 0 : uniform(-3, 3) * scale;
      const double w = dice() % 8 ? uniform(0, 1) * scale : 0, h = dice() % 8 ? uniform(0, 1) * scale : 0;
      for (const double side : {x, y, x + w, y + h}) boxes.push_back(static_cast<float>(side));
      scores.push_back(static_cast<float>(uniform(-1, 2)));
      labels.push_back(mode == 3 ? static_cast<int64_t>(dice()) : 0);
    }
    const Found found = tracker.update({count, boxes.data(), scores.data(), labels.data()});
    if (found.rows.size() != found.ids.size() || found.rows.size() > boxes.size() / 4) return 1;
    most = std::max(most, tracker.tracks().size());
    coasted += tracker.expected(4).size();
    if (*tracker.fault()) return std::printf("frame %d: %s\\n", frame, tracker.fault()), 2;
    if (frame % 50 == 0) tracker = ByteTracker({0.6f, 0.1f, 0.7f, 0.1, 0.5, 0.3, 3, 8}, tracker.frames(),
                                               tracker.next_id(), tracker.tracks());
  }
  std::printf("%zu %zu\\n", most, coasted);
}
"""


def build(folder: Path, program: str, *flags: str) -> Path:
    """Compile a program against the core's sources."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    source, made = folder / "main.cpp", folder / "main"
    source.write_text(program)
    core = [str(file) for file in CORE.glob("*.cpp") if file.name != "module.cpp"]
    strict = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", f"-I{ROOT / 'csrc'}", *flags]
    subprocess.run([compiler, *strict, str(source), *core, "-o", str(made)], check=True)
    return made


def test_the_core_knows_neither_python_nor_torch():
    foreign = re.compile(r"#include\s*[<\"](pybind11/|Python\.h|torch/|ATen/|c10/|check\.h|tensors\.h)")
    files = [file for file in CORE.iterdir() if file.name != "module.cpp"]
    assert len(files) >= 6
    assert [file.name for file in files if foreign.search(file.read_text())] == []


def textbook(steps: list[tuple]) -> list[np.ndarray]:
    """The filter with its 8 x 8 matrices: mean [8] and covariance [8, 8] after each step."""
    baseline = benchmark_scripts.load("numpy_byte_tracker")
    tracker = baseline.NumpyByteTracker()
    states = []
    for verb, x, y, w, h in steps:
        box = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        if verb == "start":
            track = tracker._start(box, 0)
            track.seen = -1  # a frame ago, so that its height goes on growing
        elif verb == "predict":
            tracker._predict(track)
        else:
            tracker._extend(track, box)
            track.seen = -1
        states.append(np.concatenate([track.mean, track.covariance.ravel()]))
    return states


def test_filter_equals_its_textbook_form(tmp_path):
    """Four blocks of 2 x 2 carry all that the 8 x 8 covariance holds."""
    oracle("scipy")
    rng = np.random.default_rng(0)
    steps = []
    for _ in range(5):
        x, y, w, h = *rng.uniform(0, 1000, 2), *rng.uniform(20, 200, 2)
        steps.append(("start", x, y, w, h))
        for _ in range(60):
            steps.append(("predict", 0, 0, 0, 0))
            if rng.random() < 0.6:
                x, y, w, h = np.array([x, y, w, h]) + rng.normal(0, 3, 4)
                steps.append(("correct", x, y, w, h))
    text = "\n".join(" ".join(map(repr, (verb, *map(float, numbers)))).replace("'", "") for verb, *numbers in steps)
    program = build(tmp_path, FILTER, "-O2")
    printed = subprocess.run([program], input=text, capture_output=True, text=True, check=True).stdout
    found = np.array([line.split() for line in printed.splitlines()], dtype=float).reshape(-1, 4, 5)
    wanted = np.array(textbook(steps))
    covariance = wanted[:, 8:].reshape(-1, 8, 8)
    axes = np.arange(4)
    np.testing.assert_allclose(found[:, :, 0], wanted[:, :4], rtol=1e-9)
    np.testing.assert_allclose(found[:, :, 1], wanted[:, 4:8], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found[:, :, 2], covariance[:, axes, axes], rtol=1e-8)
    np.testing.assert_allclose(found[:, :, 3], covariance[:, axes, axes + 4], rtol=1e-8, atol=1e-15)
    np.testing.assert_allclose(found[:, :, 4], covariance[:, axes + 4, axes + 4], rtol=1e-8)
    elsewhere = np.ones((8, 8), dtype=bool)
    elsewhere[axes, axes] = elsewhere[axes + 4, axes + 4] = elsewhere[axes, axes + 4] = elsewhere[axes + 4, axes] = (
        False
    )
    assert np.abs(covariance[:, elsewhere]).max() < 1e-12


def test_wild_frames_neither_crash_nor_pile_up(tmp_path):
    """Under the address and undefined-behaviour sanitizers; states stay such as a snapshot may have."""
    try:
        program = build(tmp_path, FUZZ, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    except subprocess.CalledProcessError:
        pytest.skip("needs a compiler with sanitizers")
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    most, coasted = map(int, done.stdout.split())
    assert most <= 25 * 8
    assert coasted > 0
