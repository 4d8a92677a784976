"""The compiler's process: what it says, and what its end means to the node."""

import sys
from pathlib import Path

import pytest

from node.runtime.wasm import compiler
from node.runtime.wasm.compiler import CompileRefusedError, CompilerLostError, compile_apart, compile_here, make_engine


def ends(monkeypatch: pytest.MonkeyPatch, directory: Path, script: str) -> None:
    """The compiler is `script` instead."""
    program = directory / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.integration
def test_machine_code_of_another_process_fits_the_engine_of_this_one() -> None:
    import wasmtime

    machine_code = compile_apart(b'(module (func (export "_start")))')
    assert machine_code[:1] == compiler.MODULE_TAG
    module = wasmtime.Module.deserialize(make_engine(), machine_code[1:])
    assert [one.name for one in module.exports] == ["_start"]


@pytest.mark.integration
def test_what_is_wrong_with_a_module_comes_back_in_the_compilers_words() -> None:
    for content in (b"(module (func (export", compiler.WASM_MAGIC + b"\x01\x00\x00\x00\xff"):
        with pytest.raises(CompileRefusedError) as here:
            compile_here(content)
        with pytest.raises(CompileRefusedError) as apart:
            compile_apart(content)
        assert str(apart.value) == str(here.value) != ""


def test_a_compiler_that_is_killed_costs_one_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ends(monkeypatch, tmp_path, "kill -9 $$")
    with pytest.raises(CompilerLostError, match="signal 9 ended it; is there enough memory"):
        compile_apart(b"")


def test_a_compiler_that_breaks_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ends(monkeypatch, tmp_path, "echo Traceback >&2; echo 'ImportError: no wasmtime' >&2; exit 1")
    with pytest.raises(CompilerLostError, match="exit code 1: ImportError: no wasmtime"):
        compile_apart(b"")


def test_a_compiler_that_cannot_be_started_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    with pytest.raises(CompilerLostError, match="cannot be started"):
        compile_apart(b"")
