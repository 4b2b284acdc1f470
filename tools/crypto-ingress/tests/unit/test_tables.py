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


@pytest.mark.parametrize("path", ["file/1m.csv", "folder"])
def test_place_that_cannot_be_written_is_named(tmp_path, path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "x").mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot be written"), csv_files({"1m": tmp_path / path}):
        pass
