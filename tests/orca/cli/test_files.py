"""Several service files as one deploy."""

from pathlib import Path

import pytest

from orca.cli.files import FileOptions, load_files, read_environment
from orca.errors import InvalidRequestError, InvalidSpecError, NotFoundError


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_files_may_depend_on_each_other_in_any_order(tmp_path: Path) -> None:
    web = write(tmp_path / "web.toml", '[[service]]\nname = "web"\nimage = "w"\ndepends_on = ["db"]\n')
    db = write(tmp_path / "db.toml", '[[service]]\nname = "db"\nimage = "d"\n')
    given = load_files([web, db], FileOptions())
    assert {spec.name for spec in given.specs} == {"web", "db"}


def test_the_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    one = write(tmp_path / "one.toml", '[[service]]\nname = "a"\nimag = "w"\n')
    two = write(tmp_path / "two.toml", '[[service]]\nname = "b"\nimage = "w"\nreplicas = "x"\n')
    with pytest.raises(InvalidSpecError) as caught:
        load_files([one, two], FileOptions())
    assert {Path(problem.file).name for problem in caught.value.problems} == {"one.toml", "two.toml"}


def test_one_service_in_two_files_is_refused(tmp_path: Path) -> None:
    text = '[[service]]\nname = "a"\nimage = "w"\n'
    paths = [write(tmp_path / "one.toml", text), write(tmp_path / "two.toml", text)]
    with pytest.raises(InvalidSpecError) as caught:
        load_files(paths, FileOptions())
    assert any("default/a" in str(problem) or "twice" in str(problem) for problem in caught.value.problems)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        load_files([str(tmp_path / "nowhere")], FileOptions())


def test_the_process_wins_over_environment_files_and_later_files_over_earlier(tmp_path: Path) -> None:
    one = write(tmp_path / "one.env", "A=1\nB=1\nC=1\n")
    two = write(tmp_path / "two.env", "B=2\n")
    values = read_environment([one, two], {"C": "here"})
    assert values == {"A": "1", "B": "2", "C": "here"}


def test_a_wrong_line_of_an_environment_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.env", "A=1\n!!\n")
    with pytest.raises(InvalidRequestError, match=r"x\.env:2"):
        read_environment([path], {})
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        read_environment([str(tmp_path / "none.env")], {})
