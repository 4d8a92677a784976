"""The Wasm runtime keeps the contract of all runtimes."""

from pathlib import Path

import pytest

from tests.contracts.runtime import RuntimeContract
from tests.node.runtime.wasm.guests import WasmSubject


@pytest.mark.integration
class TestWasmRuntime(RuntimeContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> WasmSubject:
        return WasmSubject(tmp_path)
