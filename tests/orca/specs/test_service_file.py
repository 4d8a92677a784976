"""TOML service files: what each key becomes, and what a wrong one says."""

import pathlib

import msgspec
import pytest

from orca.errors import InvalidSpecError, Problem
from orca.model.ingress import HttpsMode, TlsSpec
from orca.model.spec import (
    ContainerImage,
    DependencyCondition,
    ExecCheck,
    HttpCheck,
    MountKind,
    PortSpec,
    Protocol,
    RestartPolicy,
    RouteSpec,
    ServiceSpec,
    TcpCheck,
    UpdateOrder,
    WasmModule,
    WasmWorld,
)
from orca.specs.files import load_path
from orca.specs.load import LoadedFile, load_text

EXAMPLES = pathlib.Path(__file__).parents[3] / "orca" / "examples"


def _load(text: str, **files: bytes) -> LoadedFile:
    def read_file(path: str) -> bytes:
        try:
            return files[path.removeprefix("./").replace(".", "_")]
        except KeyError:
            raise FileNotFoundError(path) from None

    return load_text(text, filename="service.toml", read_file=read_file, directory="/srv/app")


def _one(body: str, **files: bytes) -> ServiceSpec:
    head = "" if "module" in body or "image" in body else 'image = "x"\n'
    (spec,) = _load(f'[[service]]\nname = "web"\n{head}{body}', **files).specs
    return spec


def _problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidSpecError) as caught:
        _load(text)
    return caught.value.problems


def _problem(body: str) -> Problem:
    """The only problem of a service with `body`, whose first line is line 4."""
    (found,) = _problems(f'[[service]]\nname = "web"\nimage = "x"\n{body}')
    return found


def test_the_example_shows_most_keys_and_loads() -> None:
    loaded = load_path(EXAMPLES / "web")
    (spec,) = loaded.specs
    assert spec.id == "web/web"
    assert isinstance(spec.source, ContainerImage)
    assert spec.source.image == "busybox:stable"
    assert spec.replicas == 2
    assert spec.routes == (RouteSpec(domain="web.localhost"),)
    assert spec.readiness is not None
    assert spec.readiness.check == HttpCheck(path="/healthz")
    assert spec.startup is not None
    assert spec.startup.check == TcpCheck()
    assert spec.env == {"GREETING": "hello", "WORKERS": "2"}
    assert [loaded.blobs[file.content] for file in spec.files if file.content] == [
        b"<h1>Hello from Orca</h1>\n",
        b"ok\n",
    ]
    assert spec.deploy.max_surge == 1
    assert msgspec.json.decode(msgspec.json.encode(spec), type=ServiceSpec) == spec


@pytest.mark.parametrize(
    ("body", "ports"),
    [
        ("port = 80", (PortSpec(port=80),)),
        ('port = "8080:80"', (PortSpec(port=80, host_port=8080),)),
        (
            'ports = [80, "127.0.0.1:53:53/udp", {port = 90, host_port = 91, host_ip = "10.0.0.1", protocol = "udp"}]',
            (
                PortSpec(port=80),
                PortSpec(port=53, host_port=53, host_ip="127.0.0.1", protocol=Protocol.UDP),
                PortSpec(port=90, host_port=91, host_ip="10.0.0.1", protocol=Protocol.UDP),
            ),
        ),
        ('port = "[::1]:8080:80"', (PortSpec(port=80, host_port=8080, host_ip="::1"),)),
        ('port = "9000-9001:80-81"', (PortSpec(port=80, host_port=9000), PortSpec(port=81, host_port=9001))),
    ],
)
def test_ports_are_read_in_every_notation(body: str, ports: tuple[PortSpec, ...]) -> None:
    assert _one(body).ports == ports


def test_a_service_with_a_port_and_no_word_on_health_is_ready_when_the_port_accepts() -> None:
    spec = _one("port = 80")
    assert spec.readiness is not None
    assert (spec.readiness.check, spec.readiness.interval_s, spec.readiness.failure_threshold) == (TcpCheck(), 5.0, 3)
    assert spec.liveness is None


def test_the_default_probe_takes_the_first_tcp_port_and_none_of_udp() -> None:
    spec = _one('ports = ["53:53/udp", 80]')
    assert spec.readiness is not None
    assert spec.readiness.check == TcpCheck(port=80)
    assert _one('port = "53/udp"').readiness is None
    assert _one("port = 80\nreadiness = false").readiness is None


def test_health_sets_readiness_and_liveness_and_a_table_of_its_own_replaces_one() -> None:
    spec = _one('port = 80\nhealth = "/ok"\nliveness = { exec = "pgrep web", interval = "1m" }')
    assert spec.readiness is not None
    assert spec.readiness.check == HttpCheck(path="/ok")
    assert spec.liveness is not None
    assert spec.liveness.check == ExecCheck(command=("pgrep", "web"))
    assert spec.liveness.interval_s == 60.0


def test_domains_paths_triggers_and_routes_add_up() -> None:
    spec = _one(
        'port = 80\ndomains = ["A.test", "b.test"]\ntriggers = ["http:/api/edge/*"]\n'
        'routes = [{domain = "c.test", path = "/x/", strip_path = true, port = 80}]'
    )
    assert spec.routes == (
        RouteSpec(domain="a.test", path="/api/edge"),
        RouteSpec(domain="b.test", path="/api/edge"),
        RouteSpec(domain="c.test", path="/x", strip_path=True, port=80),
    )


def test_volumes_mounts_and_files_are_read() -> None:
    loaded = _load(
        """[[service]]
name = "web"
image = "x"
volumes = ["data:/var/lib/x", "./conf:/etc/x:ro"]
mounts = [{kind = "tmpfs", target = "/tmp/", size = "64Mi"}]
[service.files]
"/a" = { path = "./a.conf", mode = "0640" }
"/b" = { text = "b" }
"/c" = { secret = "db_password", mode = 0o400 }
""",
        a_conf=b"A",
    )
    (spec,) = loaded.specs
    assert [(m.kind, m.source, m.target, m.read_only, m.size_bytes) for m in spec.mounts] == [
        (MountKind.VOLUME, "data", "/var/lib/x", False, None),
        (MountKind.BIND, "/srv/app/conf", "/etc/x", True, None),
        (MountKind.TMPFS, "", "/tmp", False, 64 * 2**20),
    ]
    contents = [None if f.content is None else loaded.blobs[f.content] for f in spec.files]
    assert [(f.target, f.secret, f.mode) for f in spec.files] == [
        ("/a", None, 0o640),
        ("/b", None, 0o444),
        ("/c", "db_password", 0o400),
    ]
    assert contents == [b"A", b"b", None]


def test_a_wasm_service_keeps_its_module_as_a_blob_and_needs_no_port_for_a_route() -> None:
    loaded = _load(
        '[[service]]\nname = "edge"\nmodule = "./web.wasm"\nruntime = "wasm"\nworld = "http"\n'
        'args = ["-v"]\nrequest_timeout = "2s"\ntriggers = ["http:/edge"]\nvolumes = ["data:/data"]',
        web_wasm=b"\0asm",
    )
    (spec,) = loaded.specs
    assert isinstance(spec.source, WasmModule)
    assert loaded.blobs == {spec.source.module: b"\0asm"}
    assert (spec.source.name, spec.source.world, spec.source.request_timeout_s) == ("web.wasm", WasmWorld.HTTP, 2.0)
    assert (spec.main_port, spec.routes) == (80, (RouteSpec(path="/edge"),))


def test_rollout_shares_are_rounded_towards_progress() -> None:
    deploy = _one('replicas = 3\ndeploy = {max_surge = "25%", max_unavailable = "50%"}').deploy
    assert (deploy.max_surge, deploy.max_unavailable, deploy.order) == (1, 1, UpdateOrder.START_FIRST)


def test_a_service_that_publishes_a_host_port_is_replaced_stop_first_unless_it_says_otherwise() -> None:
    deploy = _one('port = "8080:80"').deploy
    assert (deploy.order, deploy.max_surge, deploy.max_unavailable) == (UpdateOrder.STOP_FIRST, 0, 1)
    assert _one('port = "8080:80"\ndeploy = {order = "start-first"}').deploy.order is UpdateOrder.START_FIRST


def test_dependencies_are_a_list_or_a_table_of_conditions() -> None:
    text = """
[[service]]
name = "db"
image = "x"
restart = "on-failure"
[[service]]
name = "web"
image = "x"
depends_on = { db = "completed" }
[[service]]
name = "api"
image = "x"
depends_on = ["db", "web"]
"""
    specs = _load(text).specs
    assert [[(d.service, d.condition) for d in spec.depends_on] for spec in specs[1:]] == [
        [("db", DependencyCondition.COMPLETED)],
        [("db", DependencyCondition.STARTED), ("web", DependencyCondition.STARTED)],
    ]
    assert specs[0].restart.policy is RestartPolicy.ON_FAILURE


def test_the_project_is_the_services_own_then_the_files_then_the_callers() -> None:
    service = '[[service]]\nname = "a"\nimage = "x"\n'
    assert load_text(service, filename="a.toml").specs[0].project == "default"
    assert load_text(service, filename="a.toml", project="p").specs[0].project == "p"  # type: ignore[arg-type]
    assert _load('project = "q"\n' + service).specs[0].project == "q"
    assert _load('project = "q"\n' + service + 'project = "r"').specs[0].project == "r"


def test_a_build_names_the_image_that_it_makes() -> None:
    text = '[[service]]\nname = "a"\nbuild = {context = "web", args = {V = "1"}, target = "run"}\n'
    (build,) = _load(text).builds
    assert (build.service, build.image, build.context) == ("default/a", "default-a:latest", "/srv/app/web")
    assert (build.dockerfile, build.args, build.target) == ("Dockerfile", {"V": "1"}, "run")


@pytest.mark.parametrize(
    ("body", "key", "said"),
    [
        ("replica = 3", "replica", "did you mean 'replicas'?"),
        ('replicas = "3"', "replicas", "not a whole number"),
        ("replicas = 10001", "replicas", "out of range"),
        ("replicas = true", "replicas", "true is not a whole number"),
        ("port = 70000", "port", "70000 is no port"),
        ('port = "80:x"', "port", "is no port"),
        ('port = "80/icmp"', "port", "tcp or udp"),
        ('resources = {memory = "512Xi"}', "resources.memory", "not an amount of bytes"),
        ('resources = {memory = "1Mi"}', "resources.memory", "out of range"),
        ("resources = {memory = true}", "resources.memory", "true is not an amount"),
        ("resources = {cpu = nan}", "resources.cpu", "not an amount"),
        ("stop_timeout = inf", "stop_timeout", "not a duration"),
        ('stop_timeout = "10"\nport = 1\nroutes = [{path = "x"}]', "routes[0].path", "no path prefix"),
        ('domain = "a.b"', "domain", "needs a TCP port"),
        ('port = 80\ndomain = "http://a.b"', "domain", "is no domain"),
        ('port = 80\ninternal = true\ndomain = "a.b"', "domain", "internal service"),
        ('internal = true\nport = "80:80"', "port", "internal service"),
        ("port = 80\nreadiness = {tcp = 81}", "readiness", "names port 81"),
        ("readiness = {}", "readiness", "the probe has no kind"),
        ('readiness = {exec = ["x"], interval = "0s"}', "readiness.interval", "out of range"),
        ('triggers = ["cron:* * * * *"]', "triggers[0]", "'cron:' is not supported"),
        ('triggers = ["event:x"]', "triggers[0]", "'event:' is not supported"),
        ('deploy = {strategy = "big-bang"}', "deploy.strategy", "'big-bang' is not known"),
        ('port = "80:80"\ndeploy = {strategy = "canary"}', "deploy.strategy", "publishes a port of the node"),
        ('volumes = ["d:/d"]\ndeploy = {strategy = "blue-green"}', "deploy.strategy", "writes to a volume"),
        ('restart = "never"\ndeploy = {strategy = "canary"}', "deploy.strategy", "a job has no canary rollout"),
        ('deploy = {strategy = "canary", order = "stop-first"}', "deploy.order", "stops none of the old one first"),
        ('deploy = {strategy = "canary", canary_percent = 101}', "deploy.canary_percent", "out of range"),
        ('deploy = {strategy = "canary", canary_copies = 0}', "deploy.canary_copies", "out of range"),
        ("deploy = {max_surge = 0}", "deploy.max_surge", "no update can proceed"),
        ('deploy = {max_surge = "x%"}', "deploy.max_surge", "no share"),
        ('deploy = {min_healthy_time = "3m"}', "deploy.min_healthy_time", "before the deadline"),
        ('volumes = ["data:rel"]', "volumes[0]", "cannot be mounted on"),
        ('volumes = ["/data"]', "volumes[0]", "has no name"),
        ('volumes = ["a:/x", "b:/x"]', "volumes[1]", "mounted twice"),
        ('mounts = [{target = "/x", source = "d", kind = "nfs"}]', "mounts[0].kind", "'nfs' is not known"),
        ('env = {URL = "${secrets.db url}"}', "env.URL", "'db url' is no name of a secret"),
        ('env = {URL = "pg://${secrets.db_url"}', "env.URL", "the closing brace"),
        ('files = {"/a" = {secret = "a/b"}}', "files./a", "'a/b' is no name of a secret"),
        ('files = {"/a" = {secret = "a", text = "b"}}', "files./a.secret", "only one of"),
        ("env = {FLAG = true}", "env.FLAG", "true is not a string"),
        ('labels = {"orca.node" = "x"}', "labels.'orca.node'", "belong to Orca"),
        ('runtime = "wasm"', "runtime", "does not fit"),
        ('runtime = "vm"', "runtime", "'vm' is not known"),
        ('world = "http"', "world", "is for Wasm modules"),
        ('command = "sh -c \'x"', "command", "cannot be split"),
        ('depends_on = ["dbx"]', "depends_on[0]", "does not exist in project 'default'"),
        ('depends_on = ["web"]', "depends_on[0]", "wait for each other: web → web"),
        ('name = "again"', "service[0].name", "given twice, first on line 2"),
        ("image = 1979-05-27", "service[0].image", "given twice"),
        ('files = {"/a" = {path = "gone"}}', "files./a.path", "does not exist"),
        ('files = {"/a" = {mode = "0888", text = ""}}', "files./a.mode", "no file mode"),
        ("user = 1000", "user", "1000 is not a string"),
        ("networks = 'x'", "networks", "'x' is not a list"),
        ('restart = "no"', "restart", "always, on-failure, never"),
        ('restart = {policy = "always", attempts_max = 2}', "restart.attempts_max", "only 'on-failure'"),
        ("ulimits = {nofile = {soft = 2, hard = 1}}", "ulimits", "above the hard one"),
        ('env = {A = "x\\u0000"}', "env.A", "NUL"),
    ],
)
def test_a_wrong_value_is_reported_with_line_key_and_what_is_allowed(body: str, key: str, said: str) -> None:
    found = _problem(body)
    assert found.file == "service.toml"
    assert found.line >= 4
    assert found.key.removeprefix("service[0].") == key.removeprefix("service[0].")
    assert said in str(found)
    assert found.allowed


def test_all_problems_of_a_file_come_at_once_in_the_order_of_lines() -> None:
    text = """
[[service]]
name = "Web"
image = "x"
port = 80
domain = "a.test"
memory = "1Gi"
[[service]]
name = "b"
image = "x"
port = 80
domain = "a.test"
depends_on = ["c"]
[[service]]
name = "c"
replicas = -1
depends_on = ["b"]
[[service]]
name = "c"
image = "x"
port = "99999:80"
"""
    found = _problems(text)
    assert [problem.line for problem in found] == [3, 7, 12, 13, 14, 16, 19, 21]
    words = (
        "no valid name",
        "unknown key",
        "already leads to",
        "b → c → b",
        "nothing to run",
        "range",
        "twice",
        "99999",
    )
    assert [word for word, problem in zip(words, found, strict=True) if word not in str(problem)] == []


def test_a_spec_from_the_api_may_not_name_files() -> None:
    text = '[[service]]\nname = "w"\nmodule = "./w.wasm"\n[[service]]\nname = "x"\nimage = "x"\nbuild = "."\n'
    with pytest.raises(InvalidSpecError) as caught:
        load_text(text, filename="body.toml")
    assert [(p.line, p.key) for p in caught.value.problems] == [(3, "service[0].module"), (7, "service[1].build")]


def test_what_is_deployed_counts_for_dependencies_and_routes() -> None:
    other = _one('port = 80\ndomain = "a.test"')
    text = '[[service]]\nname = "new"\nimage = "x"\nport = 80\ndepends_on = ["web"]\n'
    assert load_text(text, filename="a.toml", existing=[other]).specs[0].name == "new"
    with pytest.raises(InvalidSpecError, match="which is deployed"):
        load_text(text + 'domain = "a.test"', filename="a.toml", existing=[other])


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[[service]]\nname = ", 2, "no TOML"),
        ("[[service]]\nname = 'a\n", 2, "no TOML"),
        ("[service]\nname = 'a'", 1, "two brackets"),
        ("", 1, "no service"),
        ("service = 3", 1, "not a list"),
        ("service = [3]", 1, "not a table"),
        ("services = []", 1, "did you mean 'service'?"),
        ("a = " + "[" * 5000, 1, "nested deeper"),
        ("a" + ".a" * 200_000 + " = 1", 1, "nested deeper"),
        ("a = " + "9" * 5000, 1, "no TOML"),
    ],
)
def test_broken_toml_says_where(text: str, line: int, said: str) -> None:
    found = next(problem for problem in _problems(text) if said in str(problem))
    assert found.line == line


def test_how_long_requests_wait_for_a_copy_is_set_by_the_service() -> None:
    spec = _one('[service.ingress]\nqueue_timeout = "8s"\nqueue_max = 7')
    assert (spec.ingress.queue_timeout_s, spec.ingress.queue_max) == (8.0, 7)
    assert _one("").ingress.https is HttpsMode.BOTH
    assert _one('[service.ingress]\nhttps = "redirect"').ingress.https is HttpsMode.REDIRECT
    assert "both" in _problem('[service.ingress]\nhttps = "only"').allowed
    problem = _problem('[service.ingress]\nqueue_timeout = "10m"')
    assert problem.line == 5
    assert "300 s" in problem.message + problem.allowed


def test_a_domain_may_begin_with_a_wildcard_and_only_there() -> None:
    assert _one('port = 80\ndomain = "*.example.com"').routes == (RouteSpec(domain="*.example.com"),)
    for wrong in ("*", "a.*.org", "*a.org", "*.*.org"):
        assert "is no domain" in _problem(f'port = 80\ndomain = "{wrong}"').message


SERVED = 'port = 80\ndomain = "example.com"\n[service.ingress]\n'


def test_a_certificate_comes_from_secrets_or_from_files_that_become_secrets() -> None:
    spec = _one(SERVED + 'tls = { certificate = "${secrets.web_crt}", key = "${secrets.web.key}" }')
    assert spec.ingress.tls == TlsSpec(certificate="web_crt", key="web.key")
    head = '[[service]]\nname = "web"\nproject = "shop"\nimage = "x"\n'
    given = SERVED + 'tls = { certificate = "./web.crt", key = "web.key" }'
    loaded = _load(head + given, web_crt=b"the certificate", web_key=b"the key")
    assert loaded.specs[0].ingress.tls == TlsSpec(certificate="web-tls-certificate", key="web-tls-key")
    assert loaded.secrets == {"shop/web-tls-certificate": b"the certificate", "shop/web-tls-key": b"the key"}
    assert not loaded.blobs, "a key is stored in no other way than sealed"


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ('"web.crt"', "tls is no table"),
        ('{ certificate = "${secrets.a}" }', "the key is missing"),
        ('{ certificate = "${secrets.a}", key = "${secrets.b} " }', "not one secret and nothing else"),
        ('{ certificate = "${secrets.a}${secrets.b}", key = "${secrets.b}" }', "not one secret and nothing else"),
        ('{ certificate = "${secrets.}", key = "${secrets.b}" }', "not one secret and nothing else"),
        ('{ certificate = "${secrets.a}", key = "none.key" }', "'none.key' does not exist"),
        ('{ certificate = "${secrets.a}", key = "${secrets.b}", ca = "x" }', "ca"),
    ],
)
def test_a_certificate_that_is_not_told_rightly_is_refused(tls: str, said: str) -> None:
    problem = _problem(f"{SERVED}tls = {tls}")
    assert said in str(problem)
    assert problem.line == 7


def test_a_certificate_without_a_domain_is_refused() -> None:
    problem = _problem(
        'port = 80\npath = "/x"\n[service.ingress]\ntls = { certificate = "${secrets.a}", key = "${secrets.b}" }'
    )
    assert "no domain that a certificate could be for" in problem.message
    assert problem.line == 7
