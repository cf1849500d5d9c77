"""Galleries of examples: which are shown, and their images as data URIs within a budget of bytes."""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from remnant.finding import Exhibit, Finding
from remnant.report.labels import scheme_phrase, with_scheme_phrases

Thumbnails = Callable[[str, Sequence[str]], dict[str, np.ndarray]]
"""Images of examples by id: `thumbnails(split, ids)` -> uint8 arrays (height, width[, channel]) for those it has."""

_Key = tuple[str, str]
_Sources = dict[_Key, tuple[str, int, int]]
MOST_EXHIBITS = 48
"""Exhibits of one gallery that the page shows; report.json holds all."""
_SMALL = 64
"""Images up to this size are embedded as they are (PNG); larger ones are shrunk."""
_LARGE = 160


@dataclass(frozen=True)
class Plate:
    """One image with its caption."""

    split: str
    example: str
    source: str
    """Data URI; "" without an image."""
    width: int
    height: int
    pixelated: bool
    caption: tuple[tuple[str, str], ...]
    """Term and text of each line; a line without a colon has the term ""."""


@dataclass(frozen=True)
class Gallery:
    """A gallery as the page shows it: each row holds one plate, or an example and one beside it."""

    title: str
    rows: tuple[tuple[Plate, ...], ...]
    hidden: int
    """Exhibits that are in report.json only."""
    left_out: int
    """Images that exist but are over the budget."""

    @property
    def has_images(self) -> bool:
        """Whether any plate has an image."""
        return any(plate.source for row in self.rows for plate in row)

    @property
    def paired(self) -> bool:
        """Whether plates stand in pairs."""
        return any(len(row) > 1 for row in self.rows)


def galleries(
    findings: Iterable[Finding], thumbnails: Thumbnails | None, *, budget: int, labels: Sequence[str] = ()
) -> dict[str, tuple[Gallery, ...]]:
    """The galleries of each finding by name of its analysis, with images of at most `budget` bytes in total.

    First exhibits of every gallery come before second ones, so that each gallery has some images
    when the budget ends. The `labels` of schemes become phrases in titles and captions.
    """
    findings = list(findings)
    shown = [exhibits[:MOST_EXHIBITS] for finding in findings for exhibits in finding.galleries.values() if exhibits]
    sources, left_out = _sources(shown, thumbnails, budget)
    found: dict[str, tuple[Gallery, ...]] = {}
    for finding in findings:
        found[finding.analysis] = tuple(
            _gallery(title, exhibits, labels, sources, left_out)
            for title, exhibits in finding.galleries.items()
            if exhibits
        )
    return found


def _gallery(
    title: str, exhibits: Sequence[Exhibit], labels: Sequence[str], sources: _Sources, left_out: set[_Key]
) -> Gallery:
    rows = []
    for exhibit in exhibits[:MOST_EXHIBITS]:
        rows.append(tuple(_plate(e, _caption(e, title, labels), sources) for e in _row(exhibit)))
    missing = sum((plate.split, plate.example) in left_out for row in rows for plate in row)
    return Gallery(with_scheme_phrases(title, labels), tuple(rows), len(exhibits) - len(rows), missing)


def _caption(exhibit: Exhibit, title: str, labels: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Term and text of each line; the scheme that the gallery's title names is "compressed"."""
    caption = []
    for line in exhibit.lines:
        term, colon, text = line.partition(": ")
        if colon and term in labels and term != "dense":
            term = "compressed" if title.endswith(f": {term}") or title == term else scheme_phrase(term)
        caption.append((term if colon else "", with_scheme_phrases(text if colon else line, labels)))
    return tuple(caption)


def data_uri(image: np.ndarray) -> tuple[str, int, int]:
    """An image as a data URI, with its width and height in pixels.

    Raises
    ------
    ValueError
        If the image is not uint8 of shape (height, width), or (height, width, 1, 3 or 4).
    """
    from PIL import Image

    image = np.asarray(image)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if (
        image.dtype != np.uint8
        or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4)))
        or not image.size
    ):
        raise ValueError(
            "Expected `thumbnails` to give uint8 images of shape (height, width) or (height, width, 1, 3 or 4), "
            f"but got {image.dtype} of shape {image.shape}."
        )
    picture = Image.fromarray(np.ascontiguousarray(image))
    buffer = io.BytesIO()
    if max(picture.size) <= _SMALL:
        picture.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        picture.thumbnail((_LARGE, _LARGE), Image.Resampling.LANCZOS)
        picture.save(buffer, "WEBP", quality=80, method=4)
        kind = "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", *picture.size


def own_image(encoded: str) -> tuple[str, int, int]:
    """The PNG of an exhibit as a data URI, with its width and height in pixels.

    Raises
    ------
    ValueError
        If it is not a PNG in base64.
    """
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise ValueError("Expected `image` of an exhibit to be in base64, but it is not.") from error
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        raise ValueError("Expected `image` of an exhibit to be a PNG, but it is not.")
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    return f"data:image/png;base64,{encoded}", width, height


def _sources(
    shown: list[tuple[Exhibit, ...]], thumbnails: Thumbnails | None, budget: int
) -> tuple[_Sources, set[_Key]]:
    """Data URI, width and height by split and example, and the images over the budget."""
    if thumbnails is None:
        return {}, set()
    order: dict[_Key, int] = {}
    own = sum(len(e.image) for exhibits in shown for exhibit in exhibits for e in _row(exhibit))
    for place in range(max(map(len, shown), default=0)):
        for exhibits in shown:
            for exhibit in _row(exhibits[place]) if place < len(exhibits) else ():
                if exhibit.image:
                    continue
                order[exhibit.split, exhibit.example] = order.get((exhibit.split, exhibit.example), 0) + 1
    images = {}
    for split in sorted({split for split, _ in order}):
        ids = [example for s, example in order if s == split]
        images |= {(split, example): image for example, image in thumbnails(split, ids).items()}
    sources: _Sources = {}
    left_out: set[_Key] = set()
    spent = own  # pictures that findings bring along come first
    for key, uses in order.items():
        if key not in images:
            continue
        source = data_uri(images[key])
        # An image is embedded again at each place where it is shown.
        if spent + uses * len(source[0]) > budget:
            left_out.add(key)
            continue
        spent += uses * len(source[0])
        sources[key] = source
    return sources, left_out


def _row(exhibit: Exhibit) -> tuple[Exhibit, ...]:
    return (exhibit, exhibit.beside) if exhibit.beside else (exhibit,)


def _plate(exhibit: Exhibit, caption: tuple[tuple[str, str], ...], sources: _Sources) -> Plate:
    own = own_image(exhibit.image) if exhibit.image else ("", 0, 0)
    source, width, height = own if exhibit.image else sources.get((exhibit.split, exhibit.example), own)
    # A picture of its own may be a strip of several: its height counts.
    side = height if exhibit.image else max(width, height)
    scale = max(1, 96 // side) if source else 1
    return Plate(exhibit.split, exhibit.example, source, width * scale, height * scale, scale > 1, caption)
