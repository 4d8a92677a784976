"""Whatever the input is, the answer is specs or one error of ours."""

import pathlib
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.errors import InvalidSpecError, NotFoundError, PayloadTooLargeError
from orca.specs.compose_keys import SERVICE_KEYS as COMPOSE_KEYS
from orca.specs.env_text import EnvTextError, parse_env
from orca.specs.files import load_path
from orca.specs.interpolation import InterpolationError, Interpolator
from orca.specs.load import load_text
from orca.specs.service_file import SERVICE_KEYS as TOML_KEYS

EXAMPLES = pathlib.Path(__file__).parents[3] / "orca" / "examples"
TOML = (EXAMPLES / "web" / "service.toml").read_bytes()
COMPOSE = (EXAMPLES / "shop" / "compose.yaml").read_bytes()


def _answers(raw: bytes | str, filename: str) -> None:
    try:
        loaded = load_text(raw, filename=filename, read_file=lambda path: b"x", directory="/d")
    except InvalidSpecError as error:
        problems = list(error.problems)
    else:
        assert loaded.specs
        return
    assert problems
    assert problems == sorted(problems, key=lambda problem: problem.line)
    assert all(problem.message for problem in problems)


@given(st.binary(max_size=300), st.sampled_from(["a.toml", "a.yaml", "a"]))
def test_arbitrary_bytes_are_answered(raw: bytes, filename: str) -> None:
    _answers(raw, filename)


@given(st.text(max_size=200), st.sampled_from(["a.toml", "a.yaml", "a"]))
def test_arbitrary_text_is_answered(raw: str, filename: str) -> None:
    _answers(raw, filename)


_EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 12),
        st.sampled_from(
            [
                b"",
                b"\0",
                b"\xff",
                b"[",
                b"{",
                b"}",
                b'"',
                b"'",
                b"=",
                b": ",
                b"\n",
                b"- ",
                b"*",
                b"&a ",
                b"<<: ",
                b"${",
                b"!",
                b"9",
                b"nan",
                b"~",
                b"- - ",
                b"a.b.",
            ]
        ),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([(TOML, "a.toml"), (COMPOSE, "a.yaml")]), _EDITS)
def test_a_damaged_example_is_answered(document: tuple[bytes, str], edits: list[tuple[float, int, bytes]]) -> None:
    raw, filename = document
    for place, length, replacement in edits:
        at = int(place * len(raw))
        raw = raw[:at] + replacement + raw[at + length :]
    _answers(raw, filename)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([(TOML, "a.toml"), (COMPOSE, "a.yaml")]), st.floats(0, 1))
def test_a_truncated_example_is_answered(document: tuple[bytes, str], place: float) -> None:
    raw, filename = document
    _answers(raw[: int(place * len(raw))], filename)


_SCALARS = st.sampled_from(
    ["1", "-1", "true", "''", "'x'", "[]", "{}", "[1]", "'${A:-b}'", "[[]]", "{a: 1}", "~", "99999999999999999999"]
)


@settings(deadline=None)
@given(st.sampled_from(sorted(COMPOSE_KEYS)), _SCALARS)
def test_any_compose_key_with_any_kind_of_value_is_answered(key: str, value: str) -> None:
    _answers(f"services:\n  web:\n    {key}: {value}\n    x-image: y\n", "a.yaml")


@settings(deadline=None)
@given(
    st.sampled_from(sorted(TOML_KEYS)),
    st.sampled_from(
        [
            "1",
            "-1",
            "1.5",
            "nan",
            "inf",
            "true",
            "false",
            "''",
            "'x'",
            "[]",
            "{}",
            "[1]",
            "[{}]",
            "{a = 1}",
            "1979-05-27",
            "99999999999999999999",
        ]
    ),
)
def test_any_toml_key_with_any_kind_of_value_is_answered(key: str, value: str) -> None:
    _answers(f"[[service]]\n{key} = {value}\n", "a.toml")


def test_a_file_above_its_limit_is_refused_unread() -> None:
    with pytest.raises(PayloadTooLargeError, match="1 MiB"):
        load_text(b"#" * (2**20 + 1), filename="a.toml")


def test_what_is_no_utf_8_is_refused_with_its_line() -> None:
    for filename in ("a.toml", "a.yaml"):
        with pytest.raises(InvalidSpecError) as caught:
            load_text(b"# fine\n# \xff\n", filename=filename)
        assert [(found.line, found.message) for found in caught.value.problems] == [(2, "byte 0xff is not UTF-8")]


def test_thousands_of_problems_are_cut_and_counted() -> None:
    text = "[[service]]\nname = 'a'\nimage = 'x'\n" + "".join(f"wrong{n} = 1\n" for n in range(1000))
    with pytest.raises(InvalidSpecError) as caught:
        load_text(text, filename="a.toml")
    assert len(caught.value.problems) == 201
    assert "800 more problems" in caught.value.problems[-1].message


def test_a_reader_that_fails_is_a_problem_of_its_line() -> None:
    def read_file(path: str) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    with pytest.raises(InvalidSpecError, match="Permission denied"):
        load_text("[[service]]\nname='a'\nmodule='m.wasm'\n", filename="a.toml", read_file=read_file)


def test_a_tree_of_projects_is_checked_as_one(tmp_path: pathlib.Path) -> None:
    for project in ("shop", "blog"):
        (tmp_path / "services" / project).mkdir(parents=True)
        text = '[[service]]\nname = "web"\nimage = "x"\nport = 80\ndomain = "a.test"\n'
        (tmp_path / "services" / project / "service.toml").write_text(text)
    with pytest.raises(InvalidSpecError) as caught:
        load_path(tmp_path)
    (found,) = caught.value.problems
    assert (found.file, found.line) == ("services/shop/service.toml", 5)
    assert load_path(tmp_path / "services" / "shop" / "service.toml").specs[0].project == "shop"


def test_a_path_without_a_service_file_says_what_it_may_hold(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NotFoundError, match="no service file"):
        load_path(tmp_path)
    with pytest.raises(NotFoundError, match="does not exist"):
        load_path(tmp_path / "gone")


def test_a_module_beside_the_file_is_read(tmp_path: pathlib.Path) -> None:
    (tmp_path / "m.wasm").write_bytes(b"\0asm")
    (tmp_path / "service.toml").write_text("[[service]]\nname='a'\nmodule='./m.wasm'\n")
    assert list(load_path(tmp_path).blobs.values()) == [b"\0asm"]


def test_a_directory_in_place_of_a_module_is_a_problem(tmp_path: pathlib.Path) -> None:
    (tmp_path / "service.toml").write_text("[[service]]\nname='a'\nmodule='.'\n")
    with pytest.raises(InvalidSpecError, match="cannot be read"):
        load_path(tmp_path)


@given(st.text(alphabet=string.ascii_letters + "${}:-?+ \n", max_size=60))
def test_any_text_with_variables_is_filled_or_refused(text: str) -> None:
    try:
        filled = Interpolator({"A": "1", "B": ""}).fill(text)
    except InterpolationError:
        return
    assert len(filled) <= len(text)


def test_variables_cannot_fill_the_memory() -> None:
    with pytest.raises(InterpolationError, match="more than"):
        Interpolator({"A": "x" * 100_000}).fill("$A" * 1000)


@given(st.text(alphabet=string.ascii_letters + "='\"#\\\n $", max_size=80))
def test_any_env_text_is_read_or_refused_with_its_line(text: str) -> None:
    try:
        values = parse_env(text, {})
        line = 1
    except EnvTextError as problem:
        values, line = {}, problem.line
    assert all(values) or not values
    assert 1 <= line <= text.count("\n") + 1
