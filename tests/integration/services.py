"""Service files that the integration tests deploy."""

from tests.images import WEB_IMAGE

HELLO_WAT = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\21\\00\\00\\00")
  (data (i32.const 16) "content-type: text/plain\\n\\nmodule\\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
"""
"""Answers `module` to every request."""


def container(name: str = "web", *, say: str = "one", replicas: int = 1, more: str = "", command: str = "") -> str:
    """A container service on its own path that answers `say`, or runs another shell `command`."""
    script = (
        command
        or f"mkdir -p /tmp/www/{name} && echo {say} > /tmp/www/{name}/index.html && exec httpd -f -p 8080 -h /tmp/www"
    )
    return f"""
[[service]]
name = "{name}"
image = "{WEB_IMAGE}"
pull = "never"
command = ["sh", "-c", {toml_text(script)}]
port = 8080
path = "/{name}"
replicas = {replicas}
stop_timeout = "1s"
{more}
"""


def worker(name: str, command: str, *, replicas: int = 1, more: str = "") -> str:
    """A container service without a port that runs a shell `command`."""
    return f"""
[[service]]
name = "{name}"
image = "{WEB_IMAGE}"
pull = "never"
command = ["sh", "-c", {toml_text(command)}]
replicas = {replicas}
stop_timeout = "1s"
{more}
"""


def module(name: str = "hello", *, path: str = "hello.wat", replicas: int = 1, more: str = "") -> str:
    """A Wasm service on its own path; `path` is the module's file."""
    return f"""
[[service]]
name = "{name}"
runtime = "wasm"
module = "{path}"
port = 80
path = "/{name}"
replicas = {replicas}
{more}
"""


def toml_text(text: str) -> str:
    """`text` as a TOML string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
