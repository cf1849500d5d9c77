import io
import itertools

import numpy as np
import pytest
from PIL import Image

from remnant.codecs import Jpeg
from remnant.codecs.jpeg_markers import segments
from tests.codecs.crops import crops


def test_a_baseline_stream_has_the_segments_of_the_standard():
    stream = Jpeg().encode(crops(1)).streams[0]
    found = [(part.name, part.stop - part.start) for part in segments(stream)]
    # Each with its marker of 2 bytes. ITU T.81 B.2: DQT 2 + 1 + 64; SOF 8 + 3 * 3; DHT 2 + 1 + 16 + values, of which
    # tables K.3 to K.6 hold 12 (DC) and 162 (AC); SOS 6 + 2 * 3. JFIF: APP0 16.
    tables = [("DHT", 33), ("DHT", 183), ("DHT", 33), ("DHT", 183)]
    expected = [("SOI", 2), ("APP0", 18), ("DQT", 69), ("DQT", 69), ("SOF0", 19), *tables, ("SOS", 14), ("EOI", 2)]
    assert found == expected
    assert Jpeg().header_length(stream) == 623


def test_scans_of_progressive_streams_and_restart_markers_are_told_from_data():
    image = Image.fromarray(crops(1, 64, 64)[0])
    progressive, restarted = io.BytesIO(), io.BytesIO()
    image.save(progressive, "JPEG", progressive=True)
    image.save(restarted, "JPEG", restart_marker_blocks=1)
    names = [part.name for part in segments(progressive.getvalue())]
    assert names.count("SOS") > 1
    assert names[-1] == "EOI"
    assert "SOF2" in names
    names = [part.name for part in segments(restarted.getvalue())]
    assert "DRI" in names
    assert names.count("SOS") == 1
    assert sum(restarted.getvalue().count(bytes([0xFF, code])) for code in range(0xD0, 0xD8)) > 0


def test_segments_and_data_cover_the_stream():
    for stream in Jpeg(quality=100, optimize=True).encode(crops(5)).streams:
        parts = segments(stream)
        scan = next(i for i, part in enumerate(parts) if part.name == "SOS")
        for before, after in itertools.pairwise(parts):
            assert before.stop == after.start or before is parts[scan]
        assert parts[-1].stop == len(stream)
        data = np.frombuffer(stream[parts[scan].stop : parts[scan + 1].start], np.uint8)
        after_ff = data[1:][data[:-1] == 0xFF]
        assert np.all(after_ff == 0)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"", "begins with FF D8, but got ''"),
        (b"\x89PNG", "got '89 50'"),
        (b"\xff\xd8\xff\xe0", "cut off"),
        (b"\xff\xd8abcd", "a JPEG marker at byte 2, but got '61 62'"),
    ],
)
def test_other_bytes_are_refused(stream, message):
    with pytest.raises(ValueError, match=message):
        segments(stream)


def test_a_cut_off_stream_is_refused():
    stream = Jpeg().encode(crops(1)).streams[0]
    for length in (100, 630, len(stream) - 1):
        with pytest.raises(ValueError, match="JPEG"):
            segments(stream[:length])
