"""Where the parts of a JPEG stream lie."""

from dataclasses import dataclass

NAMES = {
    0xC4: "DHT", 0xD8: "SOI", 0xD9: "EOI", 0xDA: "SOS", 0xDB: "DQT", 0xDD: "DRI", 0xFE: "COM",
    **{0xC0 + i: f"SOF{i}" for i in range(16) if i not in (4, 8, 12)},
    **{0xE0 + i: f"APP{i}" for i in range(16)},
}  # fmt: skip


@dataclass(frozen=True)
class Segment:
    """A marker with its parameters: the bytes from `start` up to `stop`."""

    name: str
    start: int
    stop: int


def segments(stream: bytes) -> list[Segment]:
    """All marker segments in order; what lies between them is entropy-coded.

    Restart markers count as entropy-coded: they are part of the scan.

    Raises
    ------
    ValueError
        If `stream` is not a complete JPEG stream.

    References
    ----------
    ITU-T T.81, Annex B
    """
    if stream[:2] != b"\xff\xd8":
        raise ValueError(f"Expected a JPEG stream, which begins with FF D8, but got {stream[:2].hex(' ')!r}.")
    found, position = [Segment("SOI", 0, 2)], 2
    while position + 2 <= len(stream):
        code = stream[position + 1]
        if stream[position] != 0xFF or code not in NAMES:
            raise ValueError(f"Expected a JPEG marker at byte {position}, but got {stream[position:][:2].hex(' ')!r}.")
        name = NAMES[code]
        if name == "EOI":
            return [*found, Segment(name, position, position + 2)]
        stop = position + 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
        found.append(Segment(name, position, stop))
        position = _end_of_scan(stream, stop) if name == "SOS" else stop
    raise ValueError(f"Expected a JPEG stream with an end marker, but its {len(stream)} bytes are cut off.")


def _end_of_scan(stream: bytes, position: int) -> int:
    """The next marker that is neither a stuffed FF 00 nor a restart marker."""
    while (position := stream.find(b"\xff", position)) >= 0 and position + 1 < len(stream):
        follows = stream[position + 1]
        if follows not in (0x00, 0xFF) and not 0xD0 <= follows <= 0xD7:
            return position
        position += 1 if follows == 0xFF else 2
    return len(stream)
