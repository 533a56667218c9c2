"""The program for WAV files of published nets, beside NumPy's Fourier transform and the files in ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lstmc.importers.zoo import recipes
from lstmc.ops import Array
from tests.backends.lstmc_c.test_wav import chain, hann, heard, wav
from tests.on_demand.real_nets.frames import onnx_session

RATE = 16000
pytestmark = pytest.mark.network


def gtcrn(bins: Array) -> Array:
    session = onnx_session(recipes()["gtcrn"].path())
    fed = {value.name: np.zeros(value.shape, "f") for value in session.get_inputs()}
    results = []
    for frame in bins:
        fed["mix"] = np.stack([frame.real, frame.imag], -1).astype("f")[None, :, None]
        enhanced, *caches = session.run(None, fed)
        results.append(enhanced[0, :, 0, 0] + 1j * enhanced[0, :, 0, 1])
        fed |= {name.removesuffix("_out"): cache for name, cache in zip(CACHES, caches, strict=True)}
    return np.array(results)


CACHES = ("conv_cache_out", "tra_cache_out", "inter_cache_out")


def nsnet2(bins: Array) -> Array:
    session = onnx_session(recipes()["nsnet2"].path())
    powers = np.log10(np.maximum(np.abs(bins) ** 2, 1e-12)).astype("f")
    return bins * session.run(None, {session.get_inputs()[0].name: powers[None]})[0][0]


@pytest.mark.parametrize(("name", "spectra"), [("gtcrn", gtcrn), ("nsnet2", nsnet2)])
def test_a_noisy_sound_becomes_what_the_python_chain_makes_of_it(name: str, spectra: object, tmp_path: Path) -> None:
    time, rng = np.arange(2 * RATE) / RATE, np.random.default_rng(3)
    voiced = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 20)) * (np.sin(2 * np.pi * 2 * time) > 0)
    sound = np.rint(4000 * voiced + rng.normal(0, 1000, len(time))).clip(-32768, 32767).astype("<i2")
    command = [sys.executable, "-m", "lstmc", "convert", f"zoo:{name}", "--backend", "c", "-o", str(tmp_path)]
    subprocess.run([*command, "--example", "wav", "--on", "interpreter"], check=True)
    (source,) = (path for path in tmp_path.glob("*.c") if not path.stem.endswith("_wav"))
    subprocess.run(["gcc", "-O2", source, f"{source.stem}_wav.c", "-lm", "-o", "program"], cwd=tmp_path, check=True)
    stft = recipes()[name].stft
    wanted = chain(sound, stft["frame"], stft["hop"], hann(stft["frame"]) ** 0.5, spectra)  # type: ignore[arg-type]
    found = heard(tmp_path / "program", wav(sound, rate=RATE), RATE)
    print(name, "largest", np.abs(found - wanted).max(), "of", np.abs(wanted).max(), "equal", (found == wanted).mean())
    assert np.abs(wanted).max() > 1000
    assert np.abs(found - wanted).max() <= 1
    assert (found == wanted).mean() > 0.95
