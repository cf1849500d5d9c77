"""Images cut into square blocks and put together again."""

from functools import lru_cache

import torch
from torch import Tensor


def check_images(images: Tensor, block: int) -> None:
    """ValueError unless these are uint8 images (example, channel, height, width) of whole blocks."""
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise ValueError(
            f"Expected uint8 images (example, channel, height, width), but got {images.dtype} "
            f"of shape {tuple(images.shape)}."
        )
    if any(side == 0 or side % block for side in images.shape[2:]):
        height, width = images.shape[2:]
        raise ValueError(
            f"Expected height and width divisible by {block}, but the images are {height}x{width}. "
            "Crop or pad them first."
        )


def cut(images: Tensor, block: int) -> Tensor:
    """Pixels (example, row, column, channel, block * block) of the blocks of images (example, channel, y, x)."""
    number, channels, height, width = images.shape
    tiles = images.reshape(number, channels, height // block, block, width // block, block)
    return tiles.permute(0, 2, 4, 1, 3, 5).flatten(4)


def words(images: Tensor, block: int) -> Tensor:
    """The bytes of uint8 images as int32 (example, block row, row, block column, words), four bytes in each.

    Rows of a block hold all channels of one pixel, then those of the next. Moving words is much faster than
    moving bytes.
    """
    number, channels, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1).contiguous().view(-1)
    return pixels.view(torch.int32).view(number, height // block, block, width // block, block * channels // 4)


def spread(matrix: Tensor, channels: int) -> Tensor:
    """(pixel * channels, channels * coefficient): a matrix (pixel, coefficient) for blocks with the channels last."""
    pixels, size = matrix.shape
    each = torch.zeros(pixels, channels, channels, size)
    for channel in range(channels):
        each[:, channel, channel] = matrix
    return each.view(pixels * channels, channels * size)


def times(rows: Tensor, matrix: Tensor, channels: int, out: Tensor) -> Tensor:
    """The blocks of `words` times a matrix that is `spread`, float32 (example, row, column, channel, coefficient).

    Written to the contiguous `out` (example, row, column, channel * coefficient), of which a view is returned. All
    channels in one product: three times the multiplications, but no rearrangement.
    """
    blocks = rows.reshape(-1).index_select(0, _block_by_block(rows.shape, rows.device))
    pixels = blocks.view(torch.uint8).view(-1, len(matrix)).float()
    torch.mm(pixels, matrix, out=out.view(len(pixels), matrix.shape[1]))
    return out.unflatten(3, (channels, -1))


@lru_cache(maxsize=16)
def _block_by_block(shape: torch.Size, device: torch.device) -> Tensor:
    """Where the words of one block after the other lie: looking them up takes a third of the time of a strided copy."""
    places = torch.arange(shape.numel(), dtype=torch.int32, device=device)
    return places.view(shape).transpose(2, 3).reshape(-1)


def joined(blocks: Tensor) -> Tensor:
    """Inverse of `cut`."""
    number, rows, columns, channels, pixels = blocks.shape
    block = round(pixels**0.5)
    tiles = blocks.reshape(number, rows, columns, channels, block, block)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(number, channels, rows * block, columns * block)


def as_channels(blocks: Tensor) -> Tensor:
    """Blocks as (example, channel * coefficient, row, column), the coefficients of a channel side by side.

    A view, so that the channels are last in memory if the coefficients are.
    """
    return blocks.flatten(3).permute(0, 3, 1, 2)


def as_blocks(inputs: Tensor, size: int) -> Tensor:
    """Inverse of `as_channels` for `size` coefficients per channel.

    Raises
    ------
    ValueError
        If the number of channels is not a multiple of `size`.
    """
    if inputs.ndim != 4 or inputs.shape[1] % size:
        raise ValueError(
            f"Expected coefficients (example, channels * {size}, rows, columns), but got the shape "
            f"{tuple(inputs.shape)}."
        )
    return inputs.permute(0, 2, 3, 1).unflatten(3, (-1, size))
