"""A convolution moves one small kernel over the whole image; pooling keeps one number of each window.

Shapes: B samples, C channels of x, O channels of y, H x W_ pixels of x, I x J pixels of y, kh x kw offsets (u, v) of
the kernel, s stride, p padding.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from unvanish.formulas._shapes import expect


def output_size(n: int, k: int, stride: int = 1, padding: int = 0) -> int:
    """floor((n + 2p - k) / s) + 1: places of a kernel of k along n pixels (Dumoulin and Visin 2016, relationship 6).

    Raises:
        ValueError: the kernel is larger than the padded image, or a number is too small to mean anything.
    """
    if min(n, k, stride) < 1 or padding < 0:
        raise ValueError(f"n={n}, k={k} and stride={stride} must be at least 1, and padding={padding} at least 0")
    if k > n + 2 * padding:
        raise ValueError(f"a kernel of {k} does not fit into {n + 2 * padding} pixels, padding included")
    return (n + 2 * padding - k) // stride + 1


def convolution(x: Tensor, W: Tensor, b: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """y[o, i, j] = b[o] + sum_{c,u,v} W[o, c, u, v] x[c, i s + u - p, j s + v - p], with x = 0 outside of the image.

    The field calls it convolution. It is the cross-correlation, for the kernel is not mirrored (Goodfellow et al. 2016,
    equation 9.6); a kernel that is learnt does not care.

    Args:
        x: (B, C, H, W_).
        W: (O, C, kh, kw).
        b: (O,).
        stride: s, along both axes.
        padding: p zeros on each of the four sides.

    Returns:
        (B, O, I, J), with I and J by ``output_size``.
    """
    expect("W", W, (W.shape[0], x.shape[1], *W.shape[2:]))
    expect("b", b, (W.shape[0],))
    y = b.view(-1, 1, 1)
    for u, v, pixels in _shifted(_pad(x, padding), W, stride):
        y = y + torch.einsum("oc,bcij->boij", W[:, :, u, v], pixels)
    return y


def convolution_backward(
    delta: Tensor, x: Tensor, W: Tensor, stride: int = 1, padding: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """dL/dx, dL/dW and dL/db of ``convolution``, for delta = dL/dy (B, O, I, J).

    dL/dx[c, i s + u - p, j s + v - p] gets W[o, c, u, v] delta[o, i, j] from each o, i, j, u, v;
    dL/dW[o, c, u, v] = sum_{i,j} delta[o, i, j] x[c, i s + u - p, j s + v - p];  dL/db[o] = sum_{i,j} delta[o, i, j].
    The last two are summed over the batch as well.
    """
    (rows, columns), (kh, kw) = x.shape[2:], W.shape[2:]
    expect("W", W, (W.shape[0], x.shape[1], kh, kw))
    places = output_size(rows, kh, stride, padding), output_size(columns, kw, stride, padding)
    expect("delta", delta, (x.shape[0], W.shape[0], *places))
    dx, dW = _pad(torch.zeros_like(x), padding), torch.zeros_like(W)
    for u, v, pixels in _shifted(dx, W, stride):
        pixels.add_(torch.einsum("oc,boij->bcij", W[:, :, u, v], delta))  # a view: this adds to dx
    for u, v, pixels in _shifted(_pad(x, padding), W, stride):
        dW[:, :, u, v] = torch.einsum("boij,bcij->oc", delta, pixels)
    return dx[:, :, padding : padding + rows, padding : padding + columns], dW, delta.sum((0, 2, 3))


def max_pool(x: Tensor, size: int) -> Tensor:
    """y[i, j] = max_{u,v < size} x[i size + u, j size + v], (B, C, H, W_) -> (B, C, I, J).

    Windows do not overlap. Rows and columns that do not fill a window are not read.
    """
    return _windows(x, size).amax(-1)


def max_pool_backward(delta: Tensor, x: Tensor, size: int) -> Tensor:
    """dL/dx[i size + u, j size + v] = delta[i, j] where x is the largest of its window, and 0 elsewhere.

    Where several pixels are equally large the first one has it all, row by row, as in torch.
    """
    windows = _windows(x, size)
    expect("delta", delta, windows.shape[:-1])
    largest = windows.argmax(-1, keepdim=True)
    return _images(torch.zeros_like(windows).scatter(-1, largest, delta.unsqueeze(-1)), x, size)


def average_pool(x: Tensor, size: int) -> Tensor:
    """y[i, j] = 1/size^2 sum_{u,v < size} x[i size + u, j size + v], (B, C, H, W_) -> (B, C, I, J)."""
    return _windows(x, size).mean(-1)


def average_pool_backward(delta: Tensor, x: Tensor, size: int) -> Tensor:
    """dL/dx[i size + u, j size + v] = delta[i, j] / size^2."""
    windows = _windows(x, size)
    expect("delta", delta, windows.shape[:-1])
    return _images((delta / size**2).unsqueeze(-1).expand_as(windows), x, size)


def _pad(x: Tensor, padding: int) -> Tensor:
    """The image x between zeros, (B, C, H + 2p, W_ + 2p)."""
    samples, channels, rows, columns = x.shape
    padded = x.new_zeros(samples, channels, rows + 2 * padding, columns + 2 * padding)
    padded[:, :, padding : padding + rows, padding : padding + columns] = x
    return padded


def _shifted(padded: Tensor, W: Tensor, stride: int) -> Iterator[tuple[int, int, Tensor]]:
    """For each offset (u, v) what the kernel sees there: the pixels [i s + u, j s + v], a view (B, C, I, J)."""
    kh, kw = W.shape[2:]
    rows = (output_size(padded.shape[2], kh, stride) - 1) * stride + 1
    columns = (output_size(padded.shape[3], kw, stride) - 1) * stride + 1
    for u in range(kh):
        for v in range(kw):
            yield u, v, padded[:, :, u : u + rows : stride, v : v + columns : stride]


def _windows(x: Tensor, size: int) -> Tensor:
    """The pixels of each window side by side, (B, C, I, J, size^2)."""
    rows, columns = (output_size(n, size, stride=size) for n in x.shape[2:])
    x = x[:, :, : rows * size, : columns * size]
    return x.reshape(*x.shape[:2], rows, size, columns, size).transpose(3, 4).flatten(4)


def _images(windows: Tensor, x: Tensor, size: int) -> Tensor:
    """The inverse of ``_windows``: an image like x, with 0 where no window is."""
    image = torch.zeros_like(x)
    tiles = windows.reshape(*windows.shape[:-1], size, size).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    image[:, :, : tiles.shape[2], : tiles.shape[3]] = tiles
    return image
