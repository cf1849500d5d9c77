"""Pictures with the maps of reference and compressed model side by side."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.attribution_measures import Agreement, Measured
from remnant.finding import Exhibit
from remnant.population import thumbnails
from remnant.stats.attribution import Part, normalized
from remnant.store import StoreError

if TYPE_CHECKING:
    from PIL import Image

MOST = 24
"""Exhibits of all galleries together."""
LIMIT = 6 * 1024
"""Most characters of a picture in base64."""
_SIDE = 64
"""Small panels are enlarged towards this many pixels, by whole numbers."""
_GAP = 2


def galleries(
    found: Measured, population: xr.Dataset, names: Sequence[str], *, part: Part, most: int = MOST
) -> dict[str, tuple[Exhibit, ...]]:
    """For each scheme, the examples whose maps changed most although the answer stayed, and those whose answer changed.

    At most `most` exhibits in all. Examples whose answer stays (changes) in the most pairs come first, and among them
    those with the lowest mean similarity in these pairs; the pair with the lowest one is shown.
    """
    schemes = [a for label in found.labels if (a := found.of(label)) is not None]
    each = most // (2 * len(schemes)) if schemes else 0
    chosen = {
        f"{title}: {a.scheme}": (a, _chosen(a, flipped, each))
        for a in schemes
        for title, flipped in (("Same answer, other evidence", False), ("Answer changed", True))
    }
    rows = sorted({row for _, places in chosen.values() for row, _ in places})
    ids = found.data["example"].values
    pictures = _pictures(population, [str(ids[row]) for row in rows])
    made = {
        title: tuple(_exhibit(found, a, place, names, pictures, part) for place in places)
        for title, (a, places) in chosen.items()
    }
    return {title: exhibits for title, exhibits in made.items() if exhibits}


def _chosen(a: Agreement, flipped: bool, most: int) -> list[tuple[int, int]]:
    """Examples and the pair to show of each."""
    values = np.where(a.differ == flipped, a.similarity, np.nan)
    known = np.isfinite(values)
    rows = np.flatnonzero(known.any(axis=0))
    filled = np.where(known, values, np.inf)[:, rows]
    mean = np.where(known, values, 0)[:, rows].sum(axis=0) / known[:, rows].sum(axis=0)
    order = np.lexsort((rows, mean, -known[:, rows].sum(axis=0)))[: max(most, 0)]
    return [(int(rows[k]), int(filled[:, k].argmin())) for k in order]


def _exhibit(
    found: Measured,
    a: Agreement,
    place: tuple[int, int],
    names: Sequence[str],
    pictures: Mapping[str, NDArray[np.uint8]],
    part: Part,
) -> Exhibit:
    data, (row, pair) = found.data, place
    example = str(data["example"].values[row])
    column = [str(name) for name in data["method"].values].index(a.method)
    trials = a.pairs[pair]
    maps = [normalized(data["attribution"][k, row, column].values, part) for k in trials]
    before, after = (names[int(data["target"].values[k, row])] for k in trials)
    similarity = float(a.similarity[pair, row])
    seed = int(data["seed"].values[trials[1]])
    true = (f"true: {names[int(data['label'].values[row])]}",) if "label" in data else ()
    shown = "picture, " if example in pictures else ""
    lines = (
        *true,
        f"{found.reference}: {before}",
        f"{a.scheme}: {after}",
        f"overlap of maps: {similarity:.2f} ({a.method.replace('-', ' ')}, seed {seed})",
        f"shown: {shown}map of the reference, map of the compressed model",
    )
    return Exhibit("test", example, lines, similarity, image=strip(pictures.get(example), maps))


def strip(picture: NDArray[np.uint8] | None, maps: Sequence[NDArray[np.floating]]) -> str:
    """A picture and heat maps over it, side by side, as PNG in base64 of at most `LIMIT` characters.

    Each map is coloured by its share of its own 99th percentile (of the highest value, if that is 0), dark for 0; the
    picture shines through in grey.
    """
    from PIL import Image

    height, width = maps[0].shape
    scale = max(1, _SIDE // max(height, width))
    size = (width * scale, height * scale)
    panels = [] if picture is None else [_resized(_rgb(picture), size)]
    grey = None if picture is None else np.asarray(panels[0].convert("L"), np.float64)
    panels += [Image.fromarray(_heat(values, grey, scale)) for values in maps]
    whole = Image.new("RGB", (len(panels) * (size[0] + _GAP) - _GAP, size[1]), "white")
    for place, panel in enumerate(panels):
        whole.paste(panel, (place * (size[0] + _GAP), 0))
    encoded = ""
    for colours in (96, 48, 24, 12, 6, 3):
        encoded = _png(whole, colours)
        if len(encoded) <= LIMIT:
            return encoded
    whole.thumbnail((whole.width // 2, whole.height // 2))
    return _png(whole, 12)


def _png(image: "Image.Image", colours: int) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    image.quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _heat(values: NDArray[np.floating], grey: NDArray[np.float64] | None, scale: int) -> NDArray[np.uint8]:
    from matplotlib import colormaps

    bright = float(np.percentile(values, 99)) or float(values.max()) or 1.0
    level = np.minimum(np.asarray(values, np.float64) / bright, 1)
    level = np.kron(level, np.ones((scale, scale)))
    heat = 255 * np.asarray(colormaps["inferno"](level))[..., :3]
    if grey is not None:
        weight = (0.45 + 0.55 * level)[..., None]
        heat = weight * heat + (1 - weight) * grey[..., None]
    return heat.round().astype(np.uint8)


def _rgb(picture: NDArray[np.uint8]) -> "Image.Image":
    from PIL import Image

    picture = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    return Image.fromarray(np.ascontiguousarray(picture)).convert("RGB")


def _resized(picture: "Image.Image", size: tuple[int, int]) -> "Image.Image":
    from PIL import Image

    how: Any = Image.Resampling.NEAREST if picture.width <= size[0] else Image.Resampling.BOX
    return picture.resize(size, how)


def _pictures(population: xr.Dataset, ids: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
    """What the store keeps of the examples' pictures; nothing for populations without a store."""
    if not ids or not {"store", "fingerprint"} <= set(population.attrs):
        return {}
    try:
        return thumbnails(population.attrs["store"], population)("test", ids)
    except (StoreError, OSError):  # The maps can be shown without the pictures.
        return {}
