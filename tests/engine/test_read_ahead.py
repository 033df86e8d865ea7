"""Files are read before they are needed, as far as they can be, and no further once nobody needs them."""

import time
from pathlib import Path

from engine.weights.read_ahead import PIECE_BYTES, ReadAhead


def wait_for(ahead: ReadAhead, count: int) -> None:
    end = time.monotonic() + 20
    while ahead.bytes_read < count and time.monotonic() < end:
        time.sleep(0.01)


def test_all_files_are_read_but_those_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 1000)
    (tmp_path / "b").write_bytes(b"b" * 500)
    ahead = ReadAhead([tmp_path / "a", tmp_path / "none", tmp_path, tmp_path / "b"])
    ahead.start()
    ahead.start()
    wait_for(ahead, 1500)
    ahead.stop()
    assert ahead.bytes_read == 1500


def test_it_stops_in_the_middle_and_does_not_begin_again(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(4000 * PIECE_BYTES)  # nothing but a hole, which takes no room
    ahead = ReadAhead([tmp_path / "large"])
    ahead.start()
    wait_for(ahead, 1)
    ahead.stop()
    read = ahead.bytes_read
    assert 0 < read < 4000 * PIECE_BYTES
    ahead.start()
    time.sleep(0.05)
    assert ahead.bytes_read == read


def test_one_that_was_stopped_before_it_began_reads_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    ahead = ReadAhead([tmp_path / "a"])
    ahead.stop()
    ahead.start()
    ahead.stop()
    assert ahead.bytes_read == 0
