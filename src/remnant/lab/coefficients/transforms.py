"""Kinds of coefficients that a network can learn from, as frozen values with names."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from remnant.fields import check
from remnant.lab.coefficients import zfp_blocks
from remnant.lab.coefficients.dct import dct, inverse_dct
from remnant.lab.coefficients.jpeg import BLOCK, jpeg_coefficients
from remnant.lab.coefficients.tiles import as_blocks, check_images
from remnant.lab.coefficients.zfp_pixels import pixel_coefficients, pixels_back, rate_coefficients
from remnant.lab.coefficients.zfp_rate import bits_per_block

_CHUNK = 3 << 16
"""Pixels at once: what lies between them and their coefficients stays in the processor's cache."""


@dataclass(frozen=True)
class Coefficients(ABC):
    """A transform of uint8 images to coefficients of their blocks. Abstract: use `Zfp`, `Dct` or `JpegDct`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """How it is written in the name of a data set; `named` reads it."""

    @property
    @abstractmethod
    def side(self) -> int:
        """Pixels from one block to the next."""

    @property
    def smallest(self) -> int:
        """What the sides of images must be divisible by."""
        return self.side

    @abstractmethod
    def inverse(self, coefficients: Tensor) -> Tensor:
        """Float32 images (example, channel, height, width) of coefficients, neither rounded nor clipped to 0..255."""

    @abstractmethod
    def _transform(self, images: Tensor, out: Tensor) -> None:
        """Write the coefficients of a few images to `out` (example, row, column, channel), which is contiguous."""

    def __call__(self, images: Tensor) -> Tensor:
        """Float32 (example, channel * block^2, height / block, width / block), channels last in memory.

        Raises
        ------
        ValueError
            If these are not uint8 images (example, channel, height, width) of whole blocks.
        """
        check_images(images, self.smallest)
        channels, rows, columns = self.shape(tuple(images.shape[1:]))
        found = torch.empty(len(images), rows, columns, channels, device=images.device)
        step = max(1, _CHUNK // max(1, images[0].numel())) if len(images) else 1
        for part, out in zip(images.split(step), found.split(step), strict=True):
            self._transform(part, out)
        return found.permute(0, 3, 1, 2)

    def shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(channels, rows, columns) of the coefficients of an image (channels, height, width)."""
        channels, height, width = image_shape
        return channels * self.side**2, height // self.side, width // self.side


@dataclass(frozen=True)
class Zfp(Coefficients):
    """Coefficients of ZFP's 4x4 blocks, of pixels 0..255 as floats, in sequency order.

    Those that a ZFP stream holds, their block's exponent folded in. Channels are compressed one by one.
    """

    precision: int | None = None
    """Bit planes that are kept below a block's largest value, 1 to 32."""
    rate: float | None = None
    """Bits per value, 9/16 to 64; replaces `precision`. The block's exponent takes 9 bits of its budget."""

    def __post_init__(self) -> None:
        if (self.precision is None) == (self.rate is None):
            raise ValueError(
                f"Expected either `precision` or `rate`, but got precision={self.precision!r} and rate={self.rate!r}."
            )
        if self.precision is not None:
            whole = isinstance(self.precision, int) and 1 <= self.precision <= zfp_blocks.PLANES
            check(whole, "precision", "to be a whole number in 1..32", self.precision)
        if self.rate is not None:
            bits_per_block(self.rate, torch.float32)

    @property
    def name(self) -> str:
        return f"zfp-precision-{self.precision}" if self.rate is None else f"zfp-rate-{self.rate:g}"

    @property
    def side(self) -> int:
        return zfp_blocks.SIDE

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Float32 images that ZFP decodes, bit for bit where its decoder does not overflow.

        It does so in some blocks at 2 to 4 planes: ZFP then gives values whose sign is wrong, which
        `zfp_blocks.decode` repeats. This is the inverse transform itself.
        """
        return pixels_back(as_blocks(coefficients, zfp_blocks.SIDE**2))

    def _transform(self, images: Tensor, out: Tensor) -> None:
        if self.precision is not None:
            pixel_coefficients(images, self.precision, out)
        else:
            assert self.rate is not None
            rate_coefficients(images, self.rate, out)


@dataclass(frozen=True)
class Dct(Coefficients):
    """Orthonormal cosine transform of the pixels 0..255 of each channel, in zigzag order; nothing is rounded."""

    block: int = 8
    """Pixels along a side of a block: 4 or 8."""

    def __post_init__(self) -> None:
        check(self.block in (4, 8), "block", "to be 4 or 8", self.block)

    @property
    def name(self) -> str:
        return f"dct-{self.block}"

    @property
    def side(self) -> int:
        return self.block

    def inverse(self, coefficients: Tensor) -> Tensor:
        """The pixels, to within the rounding of float32."""
        return inverse_dct(coefficients, self.block)

    def _transform(self, images: Tensor, out: Tensor) -> None:
        dct(images, self.block, out)


@dataclass(frozen=True)
class JpegDct(Coefficients):
    """The quantized coefficients in a JPEG file of each image, times their quantization steps, in zigzag order.

    64 channels each for Y, Cb and Cr; of grey images Y alone. With `subsampled`, each of Cb's and Cr's
    coefficients stands in the places of 2x2 blocks of Y, the "UpSampling" of Gueguen et al.;
    `branches` keeps them apart, as their "Late-Concat" needs.

    References
    ----------
    gueguen2018faster, section 3
    """

    quality: int = 75
    """1 (smallest file) to 100."""
    subsampled: bool = False
    """4:2:0 rather than 4:4:4: Cb and Cr have half the height and width."""

    def __post_init__(self) -> None:
        whole = isinstance(self.quality, int) and 1 <= self.quality <= 100
        check(whole, "quality", "to be a whole number in 1..100", self.quality)

    @property
    def name(self) -> str:
        return f"jpeg-{self.quality}" + ("-420" if self.subsampled else "")

    @property
    def side(self) -> int:
        return BLOCK

    @property
    def smallest(self) -> int:
        return 2 * BLOCK if self.subsampled else BLOCK

    def branches(self, images: Tensor) -> tuple[Tensor, ...]:
        """(Y, Cb and Cr): (example, 64, rows, columns) and (example, 128, rows, columns), half with `subsampled`.

        Y alone for grey images.

        Raises
        ------
        ValueError
            If these are not uint8 images with 1 or 3 channels of whole blocks.
        """
        check_images(images, self.smallest)
        if images.shape[1] not in (1, 3):
            raise ValueError(f"Expected images with 1 or 3 channels for JPEG, but got {images.shape[1]}.")
        luma, *chroma = jpeg_coefficients(images, self.quality, subsampled=self.subsampled)
        return (luma, torch.cat(chroma, dim=1)) if chroma else (luma,)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """RGB or grey pixels, to within the rounding of a JPEG decoder (which also smooths subsampled Cb and Cr)."""
        components = as_blocks(coefficients, BLOCK**2).shape[3]
        if components not in (1, 3):
            raise ValueError(f"Expected 64 or 192 channels of JPEG coefficients, but got {coefficients.shape[1]}.")
        if components == 1:
            return inverse_dct(coefficients, BLOCK) + 128
        luma, chroma = coefficients[:, : BLOCK**2], coefficients[:, BLOCK**2 :]
        y = inverse_dct(luma, BLOCK)[:, 0] + 128
        halved = inverse_dct(chroma[:, :, ::2, ::2] if self.subsampled else chroma, BLOCK)
        blue, red = (_doubled(halved) if self.subsampled else halved).unbind(1)
        return torch.stack([y + 1.402 * red, y - 0.344136286 * blue - 0.714136286 * red, y + 1.772 * blue], dim=1)

    def _transform(self, images: Tensor, out: Tensor) -> None:
        luma, *chroma = self.branches(images)
        spread = [_doubled(part) if self.subsampled else part for part in chroma]
        torch.cat([part.permute(0, 2, 3, 1) for part in (luma, *spread)], dim=3, out=out)


COEFFICIENTS: dict[str, str] = {
    "zfp-precision-PLANES": "ZFP's 4x4 blocks with their highest 1 to 32 bit planes",
    "zfp-rate-BITS": "ZFP's 4x4 blocks within a number of bits per value",
    "dct-4": "orthonormal cosine transform of 4x4 blocks",
    "dct-8": "orthonormal cosine transform of 8x8 blocks",
    "jpeg-QUALITY": "quantized coefficients of a JPEG file without subsampling",
    "jpeg-QUALITY-420": "quantized coefficients of a JPEG file, chroma at half the resolution",
}
"""Name to what it is."""


def named(name: str) -> Coefficients:
    """The transform called `name`; `COEFFICIENTS` lists what there is.

    Raises
    ------
    ValueError
        If there is none of this name, or its number is out of range.
    """
    if match := re.fullmatch(r"zfp-precision-(\d+)", name):
        return Zfp(precision=int(match[1]))
    if match := re.fullmatch(r"zfp-rate-(\d+(?:\.\d+)?)", name):
        return Zfp(rate=float(match[1]))
    if match := re.fullmatch(r"dct-(\d+)", name):
        return Dct(int(match[1]))
    if match := re.fullmatch(r"jpeg-(\d+)(-420)?", name):
        return JpegDct(int(match[1]), subsampled=match[2] is not None)
    raise ValueError(f"Expected coefficients such as {list(COEFFICIENTS)}, but got {name!r}.")


def _doubled(values: Tensor) -> Tensor:
    """Each value in 2x2 places."""
    return values.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
