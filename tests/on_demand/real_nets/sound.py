"""Streams that resemble what a net of the zoo is fed: a voice in noise as its features, by the ``feed`` of its recipe.

Nets whose features a wheel alone computes have processes that remember instead (``REMEMBERING``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lstmc.importers.zoo import recipes
from lstmc.ops import Array
from tests.on_demand.benchmarks.numbers_error import stream
from tests.on_demand.real_nets.frames import FRAMES, Arrays, Source, onnx_session

FORMANTS = ((500, 80), (1500, 120), (2500, 160), (3500, 250))  # of a vowel, with their widths, in Hz
HARMONICS = 60


def voice(rate: int, seconds: float, seed: int) -> Array:
    """Return a voice: syllables of vowels with pauses between them, in noise 20 dB below."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(rate * seconds)) / rate
    pitch = rng.uniform(100, 220) * (1 + 0.1 * np.sin(2 * np.pi * 0.6 * t + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    moved = 1 + 0.25 * np.sin(2 * np.pi * np.outer(rng.uniform(1, 3, len(FORMANTS)), t))
    sound = np.zeros_like(t)
    for k in range(1, HARMONICS):
        peaks = sum(1 / (1 + ((k * pitch - f * move) / w) ** 2) for (f, w), move in zip(FORMANTS, moved, strict=True))
        sound += peaks * np.cos(k * phase)
    sound *= np.clip(np.sin(2 * np.pi * 3 * t), 0, None) * (np.sin(2 * np.pi * 0.8 * t + rng.uniform(0, 6)) > -0.3)
    return 0.3 * sound / np.abs(sound).max() + 0.01 * rng.standard_normal(t.shape)


def windows(rate: int, size: int, hop: int, seed: int) -> Array:
    """Return the frames of a voice, ``size`` samples each, ``hop`` apart."""
    sound = voice(rate, (FRAMES * hop + size) / rate, seed)
    return np.stack([sound[t * hop : t * hop + size] for t in range(FRAMES)])


def spectra(rate: int, size: int, hop: int, seed: int, window: Array | float) -> Array:
    """Return the FFT of the frames of a voice."""
    return np.fft.rfft(windows(rate, size, hop, seed) * window)


def hann(size: int) -> Array:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


def mel_power(seed: int) -> Array:
    """Return the power of a voice in 40 mel bands, 25 ms each 10 ms."""
    power = np.abs(spectra(16000, 400, 160, seed, hann(400))) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42) / 2595) - 1)
    bins = np.arange(power.shape[1]) * 40.0
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    bands = np.clip(np.minimum(rising, falling), 0, None) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return power @ bands.T


def deep_filter_features(seed: int) -> Arrays:
    """Return the inputs of DeepFilterNet's encoder: power in ERB bands and low bins, by running means."""
    t = (np.arange(960) + 0.5) / 960
    spectrum = spectra(48000, 960, 480, seed, np.sin(np.pi / 2 * np.sin(np.pi * t) ** 2)) / 480
    edges = np.linspace(0, 9.265 * np.log1p(24000 / (24.7 * 9.265)), 33)
    ends = np.round(24.7 * 9.265 * np.expm1(edges / 9.265) / 50).astype(int)
    for band in range(1, 33):
        ends[band] = max(ends[band], ends[band - 1] + 2)
    ends[-1] = 481
    bands = np.stack([(np.abs(part) ** 2).mean(1) for part in np.split(spectrum, ends[1:-1], 1)], 1)
    mean, unit = np.linspace(-60, -90, 32), np.linspace(0.001, 0.0001, 96)
    erb, low = [], []
    for power, bins in zip(10 * np.log10(bands + 1e-10), spectrum[:, :96], strict=True):
        mean, unit = 0.99 * mean + 0.01 * power, 0.99 * unit + 0.01 * np.abs(bins)
        erb.append((power - mean) / 40)
        low.append(np.stack([bins.real, bins.imag]) / np.sqrt(unit))
    return {"feat_erb": np.stack(erb), "feat_spec": np.stack(low)}


def encoded(seed: int) -> Arrays:
    """Return the outputs of DeepFilterNet's encoder, frame by frame, in ONNX Runtime."""
    fed = deep_filter_features(seed)
    whole = {"feat_erb": fed["feat_erb"][None, None], "feat_spec": fed["feat_spec"].transpose(1, 0, 2)[None]}
    session = onnx_session(recipes()["dfn3-enc"].path())
    names = [entry.name for entry in session.get_outputs()]
    made = session.run(names, {name: array.astype(np.float32) for name, array in whole.items()})
    return {name: np.moveaxis(array, 1 if array.ndim == 3 else 2, 0) for name, array in zip(names, made, strict=True)}


def _complex(seed: int) -> Array:
    bins = spectra(16000, 512, 256, seed, np.sqrt(hann(512)))
    return np.stack([bins.real, bins.imag], -1)


# The features of a net: an array for its only input, or several by name; the first axis counts frames.
FEEDS: Mapping[str, Callable[[int], Array | Arrays]] = {
    "dfn3-df-dec": encoded,
    "dfn3-enc": deep_filter_features,
    "dfn3-erb-dec": encoded,
    "dtln-1": lambda seed: np.abs(spectra(16000, 512, 128, seed, 1.0)),
    "dtln-2": lambda seed: windows(16000, 512, 128, seed),
    "gtcrn": _complex,
    "nsnet2": lambda seed: np.log10(np.abs(spectra(16000, 320, 160, seed, np.sqrt(hann(320)))) ** 2 + 1e-12),
    "resemblyzer": mel_power,
    "silero-vad": lambda seed: windows(16000, 576, 512, seed),
}


def features(name: str, source: Source, seed: int) -> Arrays:
    """Return a stream for a net, by its model's names: [frames, ...], in the model's shapes."""
    net, first = source.model.net, source.inputs[0]
    named = {each: net.called[each] for each in net.inputs if net.called.get(each) in first}
    rng = np.random.default_rng(seed)
    made = FEEDS[name](seed) if name in FEEDS else {n: stream(first[n].shape, FRAMES, rng) for n in named.values()}
    by_name = made if isinstance(made, dict) else dict.fromkeys(named.values(), made)
    shaped = {each: by_name[told].reshape(FRAMES, *first[told].shape) for each, told in named.items()}
    axes = {each: net.axes.get(each, range(first[told].ndim)) for each, told in named.items()}
    return {
        each: array.transpose(0, *(1 + axis for axis in axes[each])).astype(np.float32)
        for each, array in shaped.items()
    }
