"""Compose files: what each key becomes, what is ignored with a word, what is refused by name."""

import pathlib
import tempfile
from collections.abc import Mapping

import pytest

from orca.errors import InvalidSpecError, Problem
from orca.model.spec import (
    ContainerImage,
    DependencyCondition,
    DependencySpec,
    ExecCheck,
    HttpCheck,
    MountKind,
    PlacementSpec,
    PortSpec,
    Protocol,
    PullPolicy,
    Resources,
    RestartPolicy,
    RestartSpec,
    RouteSpec,
    ServiceSpec,
    Ulimit,
    UpdateOrder,
)
from orca.specs.files import load_path
from orca.specs.load import LoadedFile, load_text

EXAMPLES = pathlib.Path(__file__).parents[3] / "orca" / "examples"


def _load(
    text: str, *, environment: Mapping[str, str] | None = None, profiles: tuple[str, ...] = (), **files: bytes
) -> LoadedFile:
    def read_file(path: str) -> bytes:
        name = path.removeprefix("./").replace(".", "_")
        if name not in files:
            raise FileNotFoundError(path)
        return files[name]

    return load_text(
        text,
        filename="compose.yaml",
        read_file=read_file,
        environment=environment,
        profiles=frozenset(profiles),
        directory="/srv/app",
    )


def _indented(body: str) -> str:
    return "services:\n  web:\n    image: x\n" + "".join(f"    {line}\n" for line in body.splitlines())


def _one(body: str, *, top: str = "", environment: Mapping[str, str] | None = None, **files: bytes) -> ServiceSpec:
    (spec,) = _load(_indented(body) + top, environment=environment, profiles=(), **files).specs
    return spec


def _container(body: str) -> ContainerImage:
    source = _one(body).source
    assert isinstance(source, ContainerImage)
    return source


def _problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidSpecError) as caught:
        _load(text)
    return caught.value.problems


def test_the_example_loads_unmodified() -> None:
    loaded = load_path(EXAMPLES / "shop")
    assert loaded.kind == "compose"
    assert loaded.ignored == ()
    specs = {spec.name: spec for spec in loaded.specs}
    assert [spec.id for spec in loaded.specs] == ["shop/web", "shop/api", "shop/db"]
    web, api, db = (specs[name] for name in ("web", "api", "db"))  # type: ignore[index]
    assert web.env == {"API_URL": "http://api:9000", "DEBUG": "no"}
    assert web.replicas == 2
    assert web.resources == Resources(cpu_milli=250, memory_bytes=64 * 2**20, pids_max=64)  # type: ignore[arg-type]
    assert web.routes == (RouteSpec(domain="shop.localhost"),)
    assert web.startup is not None
    assert web.startup.failure_threshold * web.startup.interval_s >= 10.0
    assert web.depends_on == (DependencySpec(service=api.name, condition=DependencyCondition.HEALTHY),)
    assert api.routes == (RouteSpec(domain="shop.localhost", path="/products.json"),)
    assert (api.networks, api.aliases) == (("front", "back"), ("backend",))
    assert api.files[0].content is not None
    assert loaded.blobs[api.files[0].content].startswith(b"[")
    assert [(mount.kind, mount.target) for mount in db.mounts] == [
        (MountKind.VOLUME, "/var/lib/db"),
        (MountKind.TMPFS, "/run/db"),
    ]
    assert db.stop_timeout_s == 3.0
    assert (db.log.file_bytes_max, db.log.files_max) == (2**20, 2)


def test_words_that_yaml_1_1_takes_for_booleans_stay_words() -> None:
    spec = _one("environment:\n  A: yes\n  B: 1.10\n  C: 0o17\n  D: ''\n  E: ~\n  F: null")
    assert spec.env == {"A": "yes", "B": "1.10", "C": "0o17", "D": ""}


def test_variables_are_filled_by_the_compose_rules() -> None:
    body = (
        'environment: ["A=${A}", "B=${B:-b}", "C=${E-c}", "D=${A:+d}", "F=$$A", "G=${B:-${A}}", "H=$A-x", "A2", "NO"]\n'
        'command: ["${A:?needed}"]'
    )
    spec = _one(body, environment={"A": "1", "E": "", "A2": "two"})
    assert spec.env == {"A": "1", "B": "b", "C": "", "D": "d", "F": "$A", "G": "1", "H": "1-x", "A2": "two"}


def test_a_variable_without_a_value_is_empty_and_named() -> None:
    loaded = _load(_indented('hostname: "a${GONE}"'))
    assert [(found.line, "GONE" in found.message) for found in loaded.ignored] == [(4, True)]


def test_a_required_variable_that_is_not_set_is_refused_with_its_own_words() -> None:
    (found,) = _problems(_indented('command: "${KEY:?set KEY first}"'))
    assert (found.line, found.message) == (4, "variable KEY is not set: set KEY first")


def test_anchors_merge_keys_and_extensions_work() -> None:
    text = (
        "x-a: &a\n  image: y\n  restart: always\n"
        "services:\n  web:\n    <<: [*a, {user: u}]\n    image: x\n    x-note: 1\n"
    )
    (spec,) = _load(text).specs
    assert isinstance(spec.source, ContainerImage)
    assert (spec.source.image, spec.source.user) == ("x", "u")


@pytest.mark.parametrize(
    ("body", "ports"),
    [
        ('ports: ["8080:80"]', (PortSpec(port=80, host_port=8080),)),
        ("ports: [80]", (PortSpec(port=80),)),
        (
            'ports: ["127.0.0.1:53:53/udp"]',
            (PortSpec(port=53, host_port=53, host_ip="127.0.0.1", protocol=Protocol.UDP),),
        ),
        ('ports: ["90-91:80-81"]', (PortSpec(port=80, host_port=90), PortSpec(port=81, host_port=91))),
        ("ports:\n- target: 80\n  published: '8080'\n  mode: host", (PortSpec(port=80, host_port=8080),)),
        ('ports: ["8080:80"]\nexpose: [80, "81"]', (PortSpec(port=80, host_port=8080), PortSpec(port=81))),
    ],
)
def test_ports_are_read_in_every_notation(body: str, ports: tuple[PortSpec, ...]) -> None:
    assert _one(body).ports == ports


def test_without_a_health_check_a_service_is_ready_when_it_runs() -> None:
    assert _one('ports: ["8080:80"]').readiness is None


def test_a_health_check_becomes_probes_with_dockers_defaults() -> None:
    spec = _one("healthcheck:\n  test: pg_isready -q\n  start_period: 60s")
    assert spec.readiness is not None
    assert spec.readiness == spec.liveness
    assert spec.readiness.check == ExecCheck(command=("/bin/sh", "-c", "pg_isready -q"))
    assert (spec.readiness.interval_s, spec.readiness.timeout_s, spec.readiness.failure_threshold) == (30.0, 30.0, 3)
    assert spec.startup is not None
    assert spec.startup.interval_s * spec.startup.failure_threshold >= 60.0
    assert spec.deploy.deadline_s > 60.0
    assert _one('healthcheck: {test: ["NONE"]}').readiness is None
    assert _one("healthcheck: {disable: true}").readiness is None


def test_container_settings_are_carried_over() -> None:
    source = _container(
        "command: sh -c 'echo hi'\nentrypoint: [/bin/x]\nuser: 1000:1000\nworking_dir: /w\nhostname: h\ninit: false\n"
        "privileged: true\nread_only: true\ncap_add: [NET_ADMIN]\ncap_drop: [ALL]\nshm_size: 64m\nstop_signal: SIGINT\n"
        "ulimits: {nproc: 10, nofile: {soft: 1, hard: 2}}\nextra_hosts: ['a:10.0.0.1', 'b=::1']\npull_policy: always"
    )
    assert source == ContainerImage(
        image="x",
        pull=PullPolicy.ALWAYS,
        command=("sh", "-c", "echo hi"),
        entrypoint=("/bin/x",),
        user="1000:1000",
        working_dir="/w",
        hostname="h",
        init=False,
        privileged=True,
        read_only=True,
        cap_add=("NET_ADMIN",),
        cap_drop=("ALL",),
        ulimits=(Ulimit(name="nproc", soft=10, hard=10), Ulimit(name="nofile", soft=1, hard=2)),
        shm_bytes=64 * 2**20,  # type: ignore[arg-type]
        extra_hosts=("a:10.0.0.1", "b:::1"),
        stop_signal="SIGINT",
    )


def test_volumes_are_read_in_every_notation() -> None:
    body = (
        "volumes:\n- data:/a\n- ./conf:/b:ro\n- /anon\n- {type: tmpfs, target: /c, tmpfs: {size: 1m}}\n"
        "- {type: bind, source: ../up, target: /d, read_only: true}\ntmpfs: /e:size=2m"
    )
    spec = _one(body, top="volumes:\n  data: {name: kept}\n")
    assert [(m.kind.value, m.source, m.target, m.read_only, m.size_bytes) for m in spec.mounts] == [
        ("volume", "kept", "/a", False, None),
        ("bind", "/srv/app/conf", "/b", True, None),
        ("volume", "web-anon", "/anon", False, None),
        ("tmpfs", "", "/c", False, 2**20),
        ("bind", "/srv/up", "/d", True, None),
        ("tmpfs", "", "/e", False, 2 * 2**20),
    ]


def test_configs_and_secrets_become_files_at_their_places() -> None:
    body = "configs: [c, {source: c, target: /etc/c, mode: 0440}]\nsecrets: [s, {source: e, target: env}]"
    top = "configs: {c: {content: 'C'}}\nsecrets: {s: {file: ./s.txt}, e: {environment: TOKEN}}\n"
    loaded = _load(_indented(body) + top, environment={"TOKEN": "T"}, s_txt=b"S")
    files = loaded.specs[0].files
    assert [(f.target, f.secret, f.mode) for f in files] == [
        ("/c", None, 0o444),
        ("/etc/c", None, 0o440),
        ("/run/secrets/s", "s", 0o444),
        ("/run/secrets/env", "e", 0o444),
    ]
    assert [loaded.blobs[f.content] for f in files if f.content] == [b"C", b"C"]
    project = loaded.specs[0].project
    assert loaded.secrets == {f"{project}/s": b"S", f"{project}/e": b"T"}
    assert not {b"S", b"T"} & set(loaded.blobs.values())


def test_an_external_secret_is_one_of_the_cluster() -> None:
    top = "secrets: {s: {external: true}, t: {external: true, name: other}}\n"
    loaded = _load(_indented("secrets: [s, t]") + top)
    assert [(f.target, f.secret) for f in loaded.specs[0].files] == [
        ("/run/secrets/s", "s"),
        ("/run/secrets/t", "other"),
    ]
    assert not loaded.secrets


def test_env_files_come_first_and_a_missing_one_may_be_optional() -> None:
    body = "env_file:\n- a.env\n- {path: gone.env, required: false}\nenvironment: {B: mine}"
    spec = _one(body, a_env=b"# note\nexport A='x # $y'\nB=theirs\nC=\"1\\n$A\" # end\nD=${B}/d # end\n\nE\n")
    assert spec.env == {"A": "x # $y", "B": "mine", "C": "1\nx # $y", "D": "theirs/d"}


def test_the_rollout_limits_and_placement_of_deploy_are_used() -> None:
    spec = _one(
        "deploy:\n  replicas: 4\n  resources: {limits: {cpus: '0.5', memory: 64M}, reservations: {memory: 32M}}\n"
        "  update_config: {parallelism: 2, delay: 5s, order: stop-first, failure_action: pause}\n"
        "  restart_policy: {condition: on-failure, max_attempts: 3, delay: 5s}\n"
        "  placement:\n    constraints: ['node.labels.disk == ssd', node.hostname==n1, node.labels.rack != r1]\n"
        "    max_replicas_per_node: 2\n"
        "    preferences: [{spread: node.labels.zone}]\n"
        "  labels: {a: b}"
    )
    assert spec.replicas == 4
    assert spec.resources == Resources(cpu_milli=500, memory_bytes=64 * 2**20)  # type: ignore[arg-type]
    deploy = spec.deploy
    assert (deploy.order, deploy.max_surge, deploy.max_unavailable) == (UpdateOrder.STOP_FIRST, 0, 2)
    assert deploy.min_healthy_time_s == 5.0
    assert spec.restart == RestartSpec(policy=RestartPolicy.ON_FAILURE, attempts_max=3)
    assert spec.placement == PlacementSpec(
        labels={"disk": "ssd"},
        node="n1",
        spread="zone",
        constraints=("node.labels.rack != r1",),
        copies_per_node_max=2,
    )
    assert spec.labels == {"a": "b"}


def test_labels_give_a_route_and_a_health_path() -> None:
    spec = _one("expose: [80]\nlabels: [orca.domain=a.test, orca.path=/x, orca.health=/ok, keep=me]")
    assert spec.routes == (RouteSpec(domain="a.test", path="/x"),)
    assert spec.readiness is not None
    assert spec.readiness.check == HttpCheck(path="/ok")
    assert spec.labels == {"keep": "me"}


@pytest.mark.parametrize(
    ("body", "restart"),
    [
        ("", RestartSpec()),
        ("restart: no", RestartSpec(policy=RestartPolicy.NEVER)),
        ('restart: "no"', RestartSpec(policy=RestartPolicy.NEVER)),
        ("restart: unless-stopped", RestartSpec()),
        ("restart: on-failure:5", RestartSpec(policy=RestartPolicy.ON_FAILURE, attempts_max=5)),
    ],
)
def test_restart_policies_are_translated(body: str, restart: RestartSpec) -> None:
    assert _one(body).restart == restart


def test_a_service_that_others_wait_to_complete_is_a_job() -> None:
    text = (
        "services:\n  migrate: {image: x}\n  web:\n    image: x\n"
        "    depends_on: {migrate: {condition: service_completed_successfully}}\n"
    )
    migrate, web = _load(text).specs
    assert migrate.restart.policy is RestartPolicy.NEVER
    assert web.depends_on[0].condition is DependencyCondition.COMPLETED


def test_profiles_choose_the_services_and_an_optional_dependency_may_be_off() -> None:
    text = (
        "services:\n  web:\n    image: x\n    depends_on: {debug: {required: false}}\n"
        "  debug:\n    image: x\n    profiles: [dev]\n"
    )
    assert [spec.name for spec in _load(text).specs] == ["web"]
    assert [spec.name for spec in _load(text, profiles=("dev",)).specs] == ["web", "debug"]
    assert [spec.name for spec in _load(text, profiles=("*",)).specs] == ["web", "debug"]
    (found,) = _problems(text.replace("{required: false}", "{required: true}"))
    assert (found.line, "switched off" in found.message) == (4, True)


def test_a_name_that_is_no_host_label_is_translated_and_stays_an_alias() -> None:
    loaded = _load("services:\n  My_DB: {image: x}\n  web: {image: x, depends_on: [My_DB]}\n")
    assert [spec.name for spec in loaded.specs] == ["my-db", "web"]
    assert loaded.specs[0].aliases == ("My_DB",)
    assert loaded.specs[1].depends_on[0].service == "my-db"
    assert [found.line for found in loaded.ignored] == [2]


def test_harmless_keys_are_ignored_one_by_one_with_their_line() -> None:
    body = "container_name: c\ntty: true\nlogging: {driver: syslog}\nlinks: [web]\nmem_reservation: 1m"
    loaded = _load('version: "3.9"\n' + _indented(body))
    assert [(found.line, found.key) for found in loaded.ignored] == [
        (1, "version"),
        (5, "services.web.container_name"),
        (6, "services.web.tty"),
        (7, "services.web.logging"),
        (8, "services.web.links[0]"),
        (9, "services.web.mem_reservation"),
    ]


@pytest.mark.parametrize(
    ("body", "key", "said"),
    [
        ("network_mode: host", "network_mode", "not supported"),
        ("devices: [/dev/x]", "devices", "not supported"),
        ("comand: x", "comand", "did you mean 'command'?"),
        ("deploy: {mode: everywhere}", "deploy.mode", "replicated"),
        ("deploy: {replica: 1}", "deploy.replica", "did you mean 'replicas'?"),
        ("deploy: {replicas: many}", "deploy.replicas", "not a whole number"),
        ("deploy: {update_config: {failure_action: continue}}", "deploy.update_config.failure_action", "pause"),
        (
            "deploy: {placement: {constraints: [node.role == manager]}}",
            "deploy.placement.constraints[0]",
            "node.labels",
        ),
        (
            "deploy: {resources: {reservations: {devices: []}}}",
            "deploy.resources.reservations.devices",
            "not supported",
        ),
        ("restart: sometimes", "restart", "no restart policy"),
        ("ports: ['x']", "ports[0]", "is no port"),
        ("ports: ['80-81:80']", "ports[0]", "pairs 2 host ports"),
        ("ports: ['99999:80']", "ports[0]", "99999 is no port"),
        ("volumes: [gone:/x]", "volumes[0]", "not declared"),
        ("volumes: [{type: npipe, target: /x}]", "volumes[0].type", "'npipe' is not known"),
        ("networks: [gone]", "networks[0]", "not declared"),
        ("networks: {default: {ipv4_address: 10.0.0.1}}", "networks.default.ipv4_address", "not supported"),
        ("configs: [gone]", "configs[0]", "not declared"),
        ("depends_on: [gone]", "depends_on[0]", "does not exist"),
        ("healthcheck: {test: [CMD]}", "healthcheck.test", "no kind of test"),
        ("healthcheck: {interval: 1s}", "healthcheck", "has no test"),
        ("environment: {A: '${secrets.x y}'}", "environment.A", "'x y' is no name of a secret"),
        ("env_file: gone.env", "env_file", "does not exist"),
        ("mem_limit: lots", "mem_limit", "not an amount of bytes"),
        ("labels: {orca.domian: a.b}", "labels.'orca.domian'", "not known to Orca"),
        ("command: '$('", "", "is no variable"),
        ("environment: [A, A=1]\nimage: y", "image", "given twice"),
    ],
)
def test_anything_else_is_refused_by_name_with_its_line(body: str, key: str, said: str) -> None:
    (found,) = _problems(_indented(body))
    assert found.file == "compose.yaml"
    assert found.line >= 4
    assert found.key.removeprefix("services.web.") == key
    assert said in str(found)


@pytest.mark.parametrize(
    ("top", "key"),
    [
        ("include: [a.yaml]\n", "include"),
        ("networks: {n: {external: true}}\n", "networks.n.external"),
        ("volumes: {v: {external: true}}\n", "volumes.v.external"),
        ("volumes: {v: {driver: nfs}}\n", "volumes.v.driver"),
        ("volume: {}\n", "volume"),
    ],
)
def test_the_top_level_is_as_strict(top: str, key: str) -> None:
    (found,) = _problems(_indented("") + top)
    assert (found.line, found.key) == (4, key)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: {web: {image: x}\n", "no YAML"),
        ("a: &a [*a]\n", "contains itself"),
        ("a: *b\n", "names no anchor"),
        ("a: !!python/object:os.system x\n", "tag"),
        ("---\nservices: {}\n---\nb: 1\n", "second YAML document"),
        ("? [a]\n: b\n", "cannot be a key"),
        ("[" * 100_000, "nested too deep"),
        ("a: 1\na: 2\n", "given twice, first on line 1"),
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("services:\n", "no service"),
        ("just words", "not a table"),
    ],
)
def test_broken_yaml_says_what_is_wrong(text: str, said: str) -> None:
    assert any(said in problem.message for problem in _problems(text))


def test_an_alias_bomb_is_counted_and_never_expanded() -> None:
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(9)]
    assert "once its aliases are followed" in _problems("\n".join(lines))[0].message


def test_a_directory_gives_its_name_and_its_dot_env_to_a_compose_file() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name) / "My Shop_1"
        directory.mkdir()
        (directory / "docker-compose.yml").write_text("services: {web: {image: 'x:${TAG}', build: .}}\n")
        (directory / ".env").write_text("TAG=7\nOTHER=1\n")
        loaded = load_path(directory)
        assert loaded.specs[0].id == "my-shop-1/web"
        assert loaded.builds[0].image == "x:7"
        assert loaded.builds[0].context == str(directory.resolve())
        assert load_path(directory, environment={"TAG": "8"}).builds[0].image == "x:8"
