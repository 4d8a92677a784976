"""A standard component, built by componentize-py, on our host of wasi:http."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from orca.model.spec import PortSpec
from tests.node.runtime.wasm.guests import WasmSubject
from tests.node.runtime.wasm.test_requests import connect, log_text, serving

pytest.importorskip("componentize_py")
pytestmark = [pytest.mark.integration, pytest.mark.slow]

SOURCES = Path(__file__).parent / "component"


@pytest.fixture(scope="session")
def python_component(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    target = tmp_path_factory.mktemp("component") / "guest.wasm"
    program = "import sys; from componentize_py import script; sys.exit(script())"
    arguments = ["-d", "service.wit", "-w", "service", "componentize", "guest_app", "-o", str(target)]
    command = [sys.executable, "-B", "-c", program, *arguments]
    subprocess.run(command, check=True, cwd=SOURCES, capture_output=True, timeout=300)
    return target.read_bytes()


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> WasmSubject:
    """One for all tests here: a component of this size takes seconds to compile."""
    return WasmSubject(tmp_path_factory.mktemp("wasm"))


async def test_python_component_serves_requests_with_bodies_headers_and_clocks(
    subject: WasmSubject, python_component: bytes
) -> None:
    workload = subject.workload(python_component, ports=(PortSpec(port=80),), timeout_s=5.0)
    async with serving(subject, workload) as (runtime, client):
        body = b"z" * 300_000
        answer = await client.get("/a?b=c", method="POST", headers=(("x-a", "1"), ("x-a", "2")), body=body)
        assert answer.status == 201, await log_text(runtime, workload)
        assert (answer.headers["content-type"], answer.headers["x-b"]) == ("application/json", "2")
        facts = json.loads(answer.body)
        assert facts["method"] == "Method_Post"
        assert (facts["path"], facts["host"], facts["x"], facts["length"]) == ("/a?b=c", "test", ["1", "2"], len(body))
        assert facts["allocation"] == workload.allocation
        assert (facts["has_trailers"], facts["files"]) == (False, False)
        assert facts["time"] > 1_500_000_000
        again = json.loads((await client.get("/a")).body)
        assert again["length"] == 0
        assert "handling /a?b=c" in await log_text(runtime, workload)
        for path, status in (("/raise", 500), ("/sleep", 504), ("/", 201)):
            other = await connect(runtime, workload)
            async with other.stream:
                assert (await other.get(path)).status == status


async def test_python_component_answers_several_clients_at_once(subject: WasmSubject, python_component: bytes) -> None:
    workload = subject.workload(python_component, ports=(PortSpec(port=80),))
    async with serving(subject, workload) as (runtime, _):
        statuses: list[int] = []

        async def ask() -> None:
            client = await connect(runtime, workload)
            async with client.stream:
                for _ in range(10):
                    statuses.append((await client.get("/")).status)

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask)
        assert statuses == [201] * 40
