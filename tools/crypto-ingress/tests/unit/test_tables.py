import os
import stat
from pathlib import Path

import pytest

from crypto_ingress.tables import OutputError, csv_files
from ingress_common.candle_csv import HEADER


def test_files_have_the_header_and_what_is_written(tmp_path):
    with csv_files({"a": tmp_path / "a.csv", "b": tmp_path / "b.csv"}) as files:
        files["a"].write(b"60,10.0\n")
    assert (tmp_path / "a.csv").read_text() == HEADER + "60,10.0\n"
    assert (tmp_path / "b.csv").read_text() == HEADER


def test_file_appears_once_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "1m.csv"
    with csv_files({"1m": path}) as files:
        files["1m"].write(b"60,10.0\n")
        assert not path.exists()
    assert path.exists()
    assert list(path.parent.iterdir()) == [path]


def test_error_on_the_way_leaves_the_old_files(tmp_path):
    path = tmp_path / "1m.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), csv_files({"1m": path}):
        _ = 1 / 0
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_its_file_is_replaced_whole(tmp_path):
    path, target = tmp_path / "1m.csv", tmp_path / "elsewhere" / "minutes.csv"
    path.symlink_to(target)
    for row in (b"60,10.0\n", b"120,11.0\n"):
        with csv_files({"1m": path}) as files:
            files["1m"].write(row)
        assert path.is_symlink()
        assert target.read_text() == HEADER + row.decode()
        assert list(target.parent.iterdir()) == [target]


def test_what_is_no_file_is_refused_and_stays(tmp_path, monkeypatch):
    pipe, link, device = tmp_path / "pipe", tmp_path / "link", tmp_path / "device"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    device.write_text("old")
    kinds = {device: stat.S_IFCHR}
    real = Path.stat
    monkeypatch.setattr(
        Path,
        "stat",
        lambda path, **more: os.stat_result((kinds[path], *real(path)[1:])) if path in kinds else real(path, **more),
    )
    for path, kind in ((pipe, "a pipe"), (link, "a pipe"), (device, "a device"), (tmp_path, "a folder")):
        with pytest.raises(OutputError) as error, csv_files({"1m": path}):
            pass
        assert str(error.value) == f"{path}: cannot be written: expected a regular file or a new name, got {kind}"
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert link.is_symlink()
    assert device.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [device, link, pipe]


@pytest.mark.parametrize("path", ["file/1m.csv", "folder"])
def test_place_that_cannot_be_written_is_named(tmp_path, path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "x").mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot be written"), csv_files({"1m": tmp_path / path}):
        pass
