"""Learning from compressed images without decoding them: coefficients of ZFP, the cosine transform and JPEG."""

from remnant.lab.coefficients.inputs import CoefficientImages, from_coefficients, with_coefficients
from remnant.lab.coefficients.jpeg import read_jpeg_coefficients
from remnant.lab.coefficients.transforms import COEFFICIENTS, Coefficients, Dct, JpegDct, Zfp, named

__all__ = [
    "COEFFICIENTS",
    "CoefficientImages",
    "Coefficients",
    "Dct",
    "JpegDct",
    "Zfp",
    "from_coefficients",
    "named",
    "read_jpeg_coefficients",
    "with_coefficients",
]
