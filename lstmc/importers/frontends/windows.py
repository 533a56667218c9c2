"""Windows along one axis of an image, and another framework's pooling windows in Caffe."""

from __future__ import annotations

from dataclasses import dataclass

from lstmc.importers.ir.values import ShapeProblem, Size, fixed, in_pieces

Pair = tuple[int, int]


def window_count(size: int, kernel: int, stride: int, pads: tuple[int, int], ceil: bool) -> int:
    """Return the number of windows along an axis."""
    room = size + sum(pads) - kernel
    if room < 0:
        raise ShapeProblem(f"a window of {kernel} is larger than the padded image of {size}")
    count = (-(-room // stride) if ceil else room // stride) + 1
    return count - 1 if ceil and (count - 1) * stride >= size + pads[0] else count


def same_padding(size: Size, kernel: int, stride: int, dilation: int) -> Pair:
    """Return the zeros before and after an axis such that every ``stride``-th element has a window; the odd zero comes
    after."""
    total = dilation * (kernel - 1)
    if stride != 1:
        n = fixed(size, "an image's size")
        total = max((-(-n // stride) - 1) * stride + total + 1 - n, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class Windows:
    """Pooling along an axis in Caffe, which pads both sides equally and rounds up, for another framework's windows.

    ``pad`` on either side; only ``count`` windows after the first ``skip`` are kept. ``scales`` multiply the means of
    the windows, where the other framework divides by another number of elements than Caffe.
    """

    pad: int
    skip: int
    count: int
    scales: tuple[float, ...]

    @classmethod
    def of(cls, size: Size, kernel: int, stride: int, pads: tuple[int, int], ceil: bool, counted: bool) -> Windows:
        """Return the windows of another framework; ``pads`` are (before, after); ``counted``: a mean counts padding."""
        n, (before, after) = fixed(size, "an image's size"), pads
        count = in_pieces(window_count(n, kernel, stride, pads, ceil))
        for pad, skip in ((before, 0), (after, (after - before) // stride)):
            fits = skip * stride == pad - before and pad < kernel
            if fits and window_count(n, kernel, stride, (pad, pad), True) >= skip + count:
                starts = [i * stride - before for i in range(count)]
                by_caffe = [min(at + kernel, n + pad) - at for at in starts]
                edge = n + after if counted else n
                by_source = [min(at + kernel, edge) - (at if counted else max(at, 0)) for at in starts]
                if min(by_source) < 1:
                    break
                return cls(pad, skip, count, tuple(c / w for c, w in zip(by_caffe, by_source, strict=True)))
        raise ShapeProblem(
            f"windows of {kernel} with padding {list(pads)} and stride {stride} over {n}, as Caffe has none"
        )
