"""`python -m sweeper.tracking`"""

import sys

import pytest

from sweeper.tracking.__main__ import main


def test_a_folder_that_is_not_there_is_one_clear_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["tracking", str(tmp_path / "outptus")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "outptus is no folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
