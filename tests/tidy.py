"""House rules that no linter knows, as functions from source text to findings.

Each finding is one line: where, what, and how to mend it. `tests/test_tidy.py` runs them
over the repository, and over small breaches that each of them has to find.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
PACKAGES = ("orca", "gossip", "consensus", "node", "simulations", "tests")
TOP_LEVEL = frozenset({*PACKAGES, "pyproject.toml", "README.md"})

# Pure: no IO, no clock, no chance. The import contracts in pyproject.toml list the same places.
CORES = (
    "orca/model/",
    "orca/sources.py",
    "orca/config.py",
    "orca/wire.py",
    "orca/specs/",
    "gossip/",
    "consensus/",
    "node/reconciler/",
    "node/health/verdict.py",
    "node/mesh/session/",
    "node/mesh/limits.py",
    "node/mesh/purpose.py",
    "node/proxy/routes.py",
    "node/proxy/balancer.py",
    "node/proxy/certificates.py",
    "node/proxy/drain.py",
    "node/proxy/heads.py",
    "node/proxy/letting_go.py",
    "node/proxy/shares.py",
    "node/certificates/wanted.py",
    "node/doctor/judge.py",
    "node/alerts/",
    "node/figures/minutes.py",
    "node/figures/subjects.py",
    "node/figures/thresholds.py",
    "node/figures/traffic.py",
    "node/figures/words.py",
    "node/notices/decide.py",
    "node/notices/errand.py",
    "node/notices/pace.py",
    "node/notices/words.py",
    "node/api/caller.py",
    "node/api/event_pages.py",
    "node/api/passport.py",
    "node/api/permissions.py",
    "node/api/silences.py",
    "node/api/throttle.py",
    "node/believed.py",
    "node/group/freshness.py",
    "node/group/peers.py",
    "node/ingress.py",
    "node/linking.py",
    "node/routing.py",
    "node/membership/facts.py",
    "node/membership/sighting.py",
    "node/selection.py",
    "node/trust/attempts.py",
    "node/trust/authority.py",
    "node/trust/duties.py",
    "node/trust/judging.py",
    "node/trust/leaves.py",
    "node/trust/messages.py",
    "node/trust/renewal.py",
    "node/trust/sealing.py",
)
# The IO halves of packages that are pure otherwise.
DRIVERS = ("/driver.py", "consensus/asking.py", "orca/specs/files.py")
# Where `await` may stand, beside every `driver.py`.
ASYNC_PLACES = (
    "orca/http/",
    "orca/http.py",
    "orca/client/",
    "orca/commands/",
    "orca/repl/",
    "orca/cli/",
    "node/",
    "simulations/bench/",
    "tests/",
)
VAGUE_NAMES = frozenset({"utils", "util", "helpers", "helper", "misc", "common", "manager", "stuff"})
# What takes any order in and lets none out.
_ORDERLESS = frozenset({"sorted", "set", "frozenset", "any", "all", "len"})
_SET_NAMES = frozenset({"set", "frozenset", "Set", "AbstractSet", "MutableSet", "FrozenSet"})
_ORDERED_FROM = frozenset({"list", "tuple", "enumerate", "iter", "next", "zip", "map", "filter", "reversed", "join"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One Python file: its path below the root, with slashes, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax."""
        return ast.parse(self.text, self.path)

    @property
    def name(self) -> str:
        """How it is imported."""
        return ".".join(PurePosixPath(self.path).with_suffix("").parts).removesuffix(".__init__")

    @property
    def stem(self) -> str:
        """Its file name without the ending."""
        return PurePosixPath(self.path).stem

    @property
    def is_test(self) -> bool:
        """Whether it belongs to the tests."""
        return self.path.startswith("tests/")

    @property
    def is_core(self) -> bool:
        """Whether it has to be pure."""
        return self.path.startswith(CORES) and not self.path.endswith(DRIVERS)


def read_modules(root: Path) -> list[Module]:
    """Every Python file of our packages, in order of path.

    Not `tests/**/guest_*.py`: those programs run inside a Wasm sandbox, with its own packages.
    """
    files = (file for package in PACKAGES for file in (root / package).rglob("*.py"))
    modules = [Module(file.relative_to(root).as_posix(), file.read_text()) for file in sorted(files)]
    return [module for module in modules if not (module.is_test and module.stem.startswith("guest_"))]


def long_modules(module: Module) -> Iterator[str]:
    """A module is read in one sitting."""
    lines = module.text.count("\n")
    if lines > MODULE_LINES_MAX:
        yield f"{module.path}: {lines} lines, {MODULE_LINES_MAX} at most: split it by idea, not by count"


def long_functions(module: Module) -> Iterator[str]:
    """A function fits on a screen."""
    for node in ast.walk(module.tree):
        if isinstance(node, _Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield (
                    f"{module.path}:{node.lineno}: {node.name} has {lines} lines, {FUNCTION_LINES_MAX} at most:"
                    " give a part of it a name of its own"
                )


def missing_docstrings(module: Module) -> Iterator[str]:
    """A module says what it is; an empty `__init__.py` has nothing to say."""
    is_public = not module.is_test and (module.stem == "__init__" or not module.stem.startswith("_"))
    if is_public and module.tree.body and not ast.get_docstring(module.tree):
        yield f"{module.path}:1: no docstring: say in one sentence what the module is or gives"


def vague_names(module: Module) -> Iterator[str]:
    """A module is named for the noun inside."""
    for part in PurePosixPath(module.path).with_suffix("").parts:
        if part in VAGUE_NAMES:
            yield f"{module.path}: {part!r} names nothing: name it for the noun inside"


def impure_calls(module: Module) -> Iterator[str]:
    """A core neither reads files nor prints: it returns what is to be done."""
    if not module.is_core:
        return
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"open", "print", "input"}
        ):
            yield f"{module.path}:{node.lineno}: {node.func.id}() in a core: return an effect, the driver does it"


def stray_awaits(module: Module) -> Iterator[str]:
    """Only what may block is async; a core is never interrupted."""
    if not module.is_core and (module.path.endswith(DRIVERS) or module.path.startswith(ASYNC_PLACES)):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield (
                f"{module.path}:{node.lineno}: await outside a driver:"
                " keep the decision here and move the waiting into driver.py"
            )


def bare_set_iterations(module: Module) -> Iterator[str]:
    """A core never depends on the order of a set: string hashes differ from run to run."""
    if module.is_core:
        for line, what in _SetUse(module.tree).found:
            yield f"{module.path}:{line}: {what}: iterate sorted(...) or keep a dict"


def sleeps(module: Module) -> Iterator[str]:
    """A test does not sleep: it moves the virtual clock, or polls with a deadline."""
    if not module.is_test:
        return
    for node in ast.walk(module.tree):
        is_call = isinstance(node, ast.Attribute) and node.attr == "sleep" and _name(node.value) == "time"
        is_import = (
            isinstance(node, ast.ImportFrom) and node.module == "time" and "sleep" in {n.name for n in node.names}
        )
        if isinstance(node, ast.Attribute | ast.ImportFrom) and (is_call or is_import):
            yield f"{module.path}:{node.lineno}: time.sleep: use autojump_clock, or wait for the event with a deadline"


def empty_tests(module: Module) -> Iterator[str]:
    """A test file tests."""
    if not module.is_test or not module.stem.startswith("test_"):
        return
    names = [node.name for node in ast.walk(module.tree) if isinstance(node, _Function | ast.ClassDef)]
    is_stateful = "TestCase" in module.text  # hypothesis makes the class
    if not is_stateful and not any(name.startswith(("test_", "Test")) for name in names):
        yield f"{module.path}: no test in it: write one or remove the file"


def orphans(modules: Iterable[Module], entry_points: Iterable[str], texts: Iterable[str] = ()) -> Iterator[str]:
    """Nobody keeps a module that nothing uses.

    A module is used when another one imports it, or names it in a string (a worker
    process started with `python -m`), or when it is an entry point or a benchmark that
    runs by itself, or when one of `texts` names it. A use by a test alone does not count,
    except for the parts of tests.
    """
    kept = list(modules)
    entries = frozenset(entry_points)
    names = frozenset(module.name for module in kept)
    users: dict[str, set[str]] = {name: set() for name in names}
    for module in kept:
        for used in _mentions(module, names):
            if used != module.name:
                users[used].add(module.name)
    for module in kept:
        is_program = module.path.startswith("simulations/bench/") and '__name__ == "__main__"' in module.text
        is_started = module.stem in {"__init__", "__main__", "conftest"} or module.stem.startswith("test_")
        if is_started or is_program or module.name in entries or any(module.name in text for text in texts):
            continue
        if not [user for user in users[module.name] if module.is_test or not user.startswith("tests.")]:
            yield f"{module.path}: nothing imports it: use it or remove it"


def forbidden_words(path: str, text: str) -> Iterator[str]:
    """No address of a package registry, no path of one machine, nothing left for later."""
    words = {
        "pypi" + ".org": "the host of a registry",
        "files.python" + "hosted": "the host of a registry",
        "registry.npm" + "js": "the host of a registry",
        "deb." + "debian.org": "the host of a registry",
        "/opt/" + "pypi": "a path of one machine",
        "/opt/" + "wheels": "a path of one machine",
        "/wo" + "rk/": "a path of one machine",
        "/tmp/" + "venv": "a path of one machine",
        "TO" + "DO": "work left for later",
        "FIX" + "ME": "work left for later",
    }
    for number, line in enumerate(text.splitlines(), start=1):
        for word, what in words.items():
            if word in line:
                yield f"{path}:{number}: {word!r} is {what}: take it out"


def wrong_top_level(names: Iterable[str]) -> Iterator[str]:
    """The top level is fixed; only dot-names and what a build leaves behind may come beside it."""
    found = frozenset(names)
    for name in sorted(found - TOP_LEVEL):
        if not name.startswith(".") and not name.endswith(".egg-info") and name not in {"build", "dist", "__pycache__"}:
            yield f"{name}: does not belong at the top: put it into a package or a dot-folder"
    for name in sorted(TOP_LEVEL - found):
        yield f"{name}: missing at the top"


def _name(node: ast.AST) -> str:
    """The last word of a name: `members` of `self.members`, `set` of `builtins.set`."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _mentions(module: Module, names: frozenset[str]) -> Iterator[str]:
    """Those of `names` that `module` imports or writes out as a whole string."""
    package = module.name if module.stem == "__init__" else module.name.rpartition(".")[0]
    for node in ast.walk(module.tree):
        wanted: list[str] = []
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module or "") if part)
            wanted = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            wanted = [node.value]
        yield from (name for name in wanted if name in names)


@dataclass
class _Scope:
    """Names known to hold sets: in one function, or as attributes in one class."""

    names: set[str] = field(default_factory=set)


class _SetUse(ast.NodeVisitor):
    """Finds iterations over what is visibly a set.

    Visibly: a set display, comprehension or call; a name or `self.` attribute that is
    annotated as a set or assigned from one in the same function or class.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.found: list[tuple[int, str]] = []
        self._scopes = [_Scope()]
        self._classes = [_Scope()]
        self._excused: set[ast.AST] = set()
        self.visit(tree)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        scope = _Scope()
        for inner in ast.walk(node):
            if isinstance(inner, ast.AnnAssign) and _is_set_annotation(inner.annotation):
                scope.names.add(_name(inner.target))
            elif isinstance(inner, ast.Assign) and self._is_set(inner.value):
                scope.names.update(target.attr for target in inner.targets if isinstance(target, ast.Attribute))
        self._classes.append(scope)
        self.generic_visit(node)
        self._classes.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Name) and _is_set_annotation(node.annotation):
            self._scopes[-1].names.add(node.target.id)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        is_set = self._is_set(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name):
                (self._scopes[-1].names.add if is_set else self._scopes[-1].names.discard)(target.id)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._check(node.iter, "a loop over a set")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = _name(node.func)
        if called in _ORDERLESS:
            self._excused.update(node.args)
        elif called in _ORDERED_FROM:
            for argument in node.args:
                self._check(argument, f"{called}() of a set")
        elif called == "pop" and isinstance(node.func, ast.Attribute) and not node.args:
            self._check(node.func.value, "pop() of a set")
        self.generic_visit(node)

    def visit_Starred(self, node: ast.Starred) -> None:
        self._check(node.value, "a set unpacked with *")
        self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._comprehension(node, node.generators)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node, node.generators)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._comprehension(node, node.generators)

    def _comprehension(self, node: ast.AST, generators: list[ast.comprehension]) -> None:
        if node not in self._excused:
            for generator in generators:
                self._check(generator.iter, "a comprehension over a set")
        self.generic_visit(node)

    def _function(self, node: _Function) -> None:
        scope = _Scope(set(self._scopes[-1].names))
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        for argument in every:
            scope.names.discard(argument.arg)
            if argument.annotation is not None and _is_set_annotation(argument.annotation):
                scope.names.add(argument.arg)
        self._scopes.append(scope)
        self.generic_visit(node)
        self._scopes.pop()

    def _check(self, node: ast.expr, what: str) -> None:
        if self._is_set(node):
            self.found.append((node.lineno, what))

    def _is_set(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Set | ast.SetComp):
            return True
        if isinstance(node, ast.Call):
            return _name(node.func) in {"set", "frozenset", "intersection", "union", "symmetric_difference"}
        if isinstance(node, ast.BinOp):
            is_operator = isinstance(node.op, ast.BitAnd | ast.BitOr | ast.BitXor | ast.Sub)
            return is_operator and (self._is_set(node.left) or self._is_set(node.right))
        if isinstance(node, ast.Name):
            return node.id in self._scopes[-1].names
        return isinstance(node, ast.Attribute) and _name(node.value) == "self" and node.attr in self._classes[-1].names


def _is_set_annotation(node: ast.expr) -> bool:
    """Whether an annotation says set; a union of a set with None does too."""
    if isinstance(node, ast.BinOp):
        return _is_set_annotation(node.left) or _is_set_annotation(node.right)
    return _name(node.value if isinstance(node, ast.Subscript) else node) in _SET_NAMES
