"""The manifests hold together: Kubernetes takes them, what one names another has, nothing runs as root."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate
import pytest
import yaml

from tests.deploy.helm.chart import CHART, ROOT, Manifest, Rendered, labels, run_helm, selects, template, variables
from tests.deploy.helm.network import peers, reaches_address

OLDEST, NEWEST = "1.30", "1.37"
CUSTOM = yaml.safe_load((Path(__file__).parent / "custom_resources.yaml").read_text())
"""Schemas of our own for what Kubernetes itself does not know, as strict as what the chart uses of it."""
del CUSTOM["definitions"]

INSIDE = ("169.254.169.254", "10.96.0.1", "10.244.3.7", "172.20.0.10", "192.168.1.4", "100.100.100.200", "127.0.0.1")
INSIDE_6 = ("fd00:ec2::254", "fd20:ce::254", "fe80::1", "::1", "64:ff9b::a9fe:a9fe")
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_every_value_set_is_rendered(charts: dict[str, Rendered]) -> None:
    assert set(charts) == {"cpu", "gpu", "tensor-parallel", "nodes", "router", "gateway"}
    kinds = {manifest["kind"] for chart in charts.values() for manifest in chart.manifests}
    assert kinds >= set(CUSTOM)


def test_helm_finds_nothing_to_mend(charts: dict[str, Rendered]) -> None:
    told = run_helm(
        "lint", "--strict", "--quiet", str(CHART), *(f"--values={chart.values}" for chart in charts.values())
    )
    assert told.returncode == 0, told.stdout


def test_the_packed_chart_says_the_same(charts: dict[str, Rendered], tmp_path: Path) -> None:
    """Though it has files where the chart here has links."""
    told = run_helm("package", str(CHART), "--destination", str(tmp_path))
    assert told.returncode == 0, told.stderr
    (packed,) = tmp_path.iterdir()
    told = template("--values", str(charts["gpu"].values), chart=packed)
    assert [each for each in yaml.safe_load_all(told.stdout) if each] == charts["gpu"].manifests


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_them(chart: Rendered, version: str) -> None:
    for manifest in chart.manifests:
        if manifest["kind"] in CUSTOM:
            jsonschema.validate(manifest, CUSTOM[manifest["kind"]])
        else:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_the_pods_inside_custom_resources(charts: dict[str, Rendered], version: str) -> None:
    (group,) = charts["nodes"].of("LeaderWorkerSet")
    for name in ("leaderTemplate", "workerTemplate"):
        template = group["spec"]["leaderWorkerTemplate"][name]
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        kubernetes_validate.validate(pod, version, strict=True)


def test_names_fit_and_are_there_once(chart: Rendered) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in chart.manifests]
    assert len(set(names)) == len(names)
    for _, name in names:
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name)


def test_no_service_makes_a_variable_that_vllm_or_the_server_reads(chart: Rendered) -> None:
    assert not {"vllm", "swires"} & {manifest["metadata"]["name"] for manifest in chart.of("Service")}
    assert all(pod["spec"]["enableServiceLinks"] is False for _, pod in chart.pods())


def test_whatever_makes_pods_knows_its_own(chart: Rendered) -> None:
    for manifest in chart.of("Deployment", "StatefulSet"):
        assert selects(manifest["spec"]["selector"]["matchLabels"], manifest["spec"]["template"])


def test_every_selector_finds_pods_of_one_kind(chart: Rendered) -> None:
    for manifest in chart.manifests:
        if selector := _selector(manifest):
            found = [name for name, pod in chart.pods() if selects(selector, pod)]
            assert len(found) == 1, (manifest["kind"], manifest["metadata"]["name"], found)


def _selector(manifest: Manifest) -> dict[str, str]:
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "Service":
            found = spec["selector"]
        case "NetworkPolicy":
            found = spec["podSelector"]["matchLabels"]
        case "PodDisruptionBudget" | "InferencePool":
            found = spec["selector"]["matchLabels"]
        case _:
            found = {}
    return dict(found)


def test_services_lead_to_ports_that_are_there(chart: Rendered) -> None:
    for service in chart.of("Service"):
        (pod,) = (pod for _, pod in chart.pods() if selects(service["spec"]["selector"], pod))
        there = {port["name"] for container in pod["spec"]["containers"] for port in container.get("ports", ())}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= there


def test_servers_ask_each_other_at_names_that_are_there(charts: dict[str, Rendered]) -> None:
    chart = charts["router"]
    commands = {container["name"]: container["command"] for _, container in chart.containers()}
    services = {service["metadata"]["name"] for service in chart.of("Service")}
    (asked,) = re.findall(r"http://([\w-]+):8000", " ".join(commands["swires"]))
    assert asked in services
    engines = re.findall(r"http://(\S+?)-(\d+)\.([\w-]+):8000", " ".join(commands["router"]))
    (made,) = chart.of("StatefulSet")
    assert [int(number) for _, number, _ in engines] == list(range(made["spec"]["replicas"]))
    assert {name for name, _, _ in engines} == {made["metadata"]["name"]}
    assert {service for *_, service in engines} == {made["spec"]["serviceName"]} <= services


def test_monitors_find_what_they_scrape(chart: Rendered) -> None:
    for monitor in chart.of("ServiceMonitor", "PodMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        services = [
            service for service in chart.of("Service") if wanted.items() <= service["metadata"]["labels"].items()
        ]
        assert services
        assert all(selects(wanted, pod) for _, pod in chart.pods())
        endpoints = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
        assert {endpoint["port"] for endpoint in endpoints} == {"http", "metrics"}


def test_a_key_is_brought_where_metrics_want_one(charts: dict[str, Rendered]) -> None:
    (monitor,) = charts["tensor-parallel"].of("PodMonitor")
    (endpoint,) = (each for each in monitor["spec"]["podMetricsEndpoints"] if each["port"] == "http")
    assert endpoint["authorization"] == {"credentials": {"name": "scrape", "key": "key"}}


def test_nothing_runs_as_root_or_may_become_it(chart: Rendered) -> None:
    for spec, container in chart.containers():
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"].get("runAsUser") != 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert spec["automountServiceAccountToken"] is False


def test_users_are_named_but_where_openshift_gives_them(charts: dict[str, Rendered]) -> None:
    for name, chart in charts.items():
        for _, pod in chart.pods():
            context = pod["spec"]["securityContext"]
            given = {key: context[key] for key in ("runAsUser", "runAsGroup", "fsGroup") if key in context}
            assert given == ({} if name == "tensor-parallel" else {"runAsUser": 2000, "runAsGroup": 0, "fsGroup": 0})
    assert set(re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)) == {"2000:0"}


def test_no_secret_stands_in_the_manifests(chart: Rendered) -> None:
    assert not chart.of("Secret")
    for _, container in chart.containers():
        for name, value in variables(container).items():
            assert value is None or not re.search("API_KEY$|TOKEN|PASSWORD|SECRET", name)


def test_the_hub_s_token_stays_with_what_downloads(charts: dict[str, Rendered]) -> None:
    having = [container["name"] for _, container in charts["gpu"].containers() if "HF_TOKEN" in variables(container)]
    assert having == ["download"]


def test_whatever_is_mounted_is_a_volume_and_the_other_way_round(chart: Rendered) -> None:
    for name, pod in chart.pods():
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        containers = (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])
        assert {mount["name"] for each in containers for mount in each["volumeMounts"]} == volumes, name


def test_what_is_written_has_a_place(chart: Rendered) -> None:
    for _, container in chart.containers():
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        if container["name"] != "router":
            (declared,) = set(re.findall(r"^VOLUME (.+)$", DOCKERFILE, re.MULTILINE))
            assert writable >= set(json.loads(declared))
        for name in ("HOME", "VLLM_CACHE_ROOT"):
            if value := variables(container).get(name):
                assert any(Path(value).is_relative_to(place) for place in writable)
        assert "/tmp" in writable


def test_compiled_kernels_are_of_one_pod_alone(chart: Rendered) -> None:
    for _, pod in chart.pods():
        (tmp, *rest) = (volume for volume in pod["spec"]["volumes"] if volume["name"] in ("cache", "tmp"))
        assert all("emptyDir" in volume for volume in (tmp, *rest))


def test_claims_are_there_or_named(chart: Rendered) -> None:
    made = {claim["metadata"]["name"] for claim in chart.of("PersistentVolumeClaim")}
    for _, pod in chart.pods():
        for volume in pod["spec"]["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                assert claim["claimName"] in made | {"checkpoints"}


def test_accelerators_are_asked_for_as_many_as_are_used(chart: Rendered) -> None:
    for _, container in chart.containers():
        command = container["command"]
        sizes = [int(command[at + 1]) for at, word in enumerate(command) if word.endswith("-parallel-size")]
        product = 1
        for size in sizes:
            product *= size
        nodes = int(command[command.index("--nnodes") + 1]) if "--nnodes" in command else 1
        limits = container.get("resources", {}).get("limits", {})
        asked = int(limits.get("nvidia.com/gpu", 0))
        assert asked in ({0, product} if nodes == 1 and product == 1 else {product // nodes})


def test_engines_have_memory_to_share(chart: Rendered) -> None:
    """vLLM on a CPU needs more of /dev/shm than a container has by default, though it is one worker."""
    for pod, container in chart.containers():
        told = {*container["command"], *variables(container)}
        goes_elsewhere = told & {"vllm-router", "--engine-url", "SWIRES_ENGINE_URL"}
        has_engine = container in pod["containers"] and not goes_elsewhere
        assert has_engine == any(mount["mountPath"] == "/dev/shm" for mount in container["volumeMounts"])


def test_a_group_of_nodes_agrees(charts: dict[str, Rendered]) -> None:
    pods = dict(charts["nodes"].pods())
    leader, worker = (
        pods[f"search-swires-huge {role}"]["spec"]["containers"][0]["command"] for role in ("leader", "worker")
    )
    shared = ("--tensor-parallel-size", "--pipeline-parallel-size", "--nnodes", "--master-addr")
    for option in shared:
        assert leader[leader.index(option) + 1] == worker[worker.index(option) + 1]
    assert leader[leader.index("--node-rank") + 1] == "0"
    assert worker[worker.index("--node-rank") + 1] == "$(LWS_WORKER_INDEX)"
    assert worker[worker.index("--limit-mm-per-prompt") + 1] == '{"image":4}'


def test_scaled_models_leave_their_replicas_alone(charts: dict[str, Rendered]) -> None:
    for chart in charts.values():
        for scaled in chart.of("ScaledObject"):
            target = scaled["spec"]["scaleTargetRef"]
            assert "replicas" not in chart.one(target["kind"], target["name"])["spec"]


def test_every_pod_has_a_policy(chart: Rendered) -> None:
    for name, pod in chart.pods():
        policies = [each for each in chart.of("NetworkPolicy") if selects(_selector(each), pod)]
        assert [policy["spec"]["policyTypes"] for policy in policies] == [["Ingress", "Egress"]], name


def test_nobody_reaches_inside(chart: Rendered) -> None:
    """Whatever an image's address leads to: the clouds' metadata, other pods, Kubernetes, nodes."""
    for address in (*INSIDE, *INSIDE_6):
        for port in (80, 443, 8000, 6443):
            assert not reaches_address(chart.of("NetworkPolicy"), address, port)


def test_what_is_needed_is_reached(charts: dict[str, Rendered]) -> None:
    public = {"8.8.8.8": ("gpu", "router", "gateway"), "2001:4860:4860::8888": ("gateway",)}
    for address, reached in public.items():
        found = [name for name, chart in charts.items() if reaches_address(chart.of("NetworkPolicy"), address, 443)]
        assert sorted(found) == sorted(reached)
    assert not reaches_address(charts["gateway"].of("NetworkPolicy"), "8.8.8.8", 8080)
    assert not reaches_address(charts["gpu"].of("NetworkPolicy"), "8.8.8.8", 80)


def test_exceptions_lie_within_what_they_are_of(chart: Rendered) -> None:
    for policy in chart.of("NetworkPolicy"):
        for rule in policy["spec"].get("egress", ()):
            for peer in rule.get("to", ()):
                if block := peer.get("ipBlock"):
                    assert not block.get("except") or block["cidr"] in ("0.0.0.0/0", "::/0")


def test_nobody_but_gateways_and_prometheus_comes_in_from_elsewhere(chart: Rendered) -> None:
    pods = [labels(pod) for _, pod in chart.pods()]
    for policy in chart.of("NetworkPolicy"):
        for rule in policy["spec"]["ingress"]:
            assert rule["from"]
        for peer, _ in peers(policy, "ingress"):
            assert peer is None or any(peer.items() <= there.items() for there in pods)


def test_both_ends_of_a_way_inside_let_it_through(charts: dict[str, Rendered]) -> None:
    for chart, (asks, answers) in (
        (charts["router"], ("front", "router")),
        (charts["router"], ("router", "engine")),
        (charts["nodes"], ("server", "worker")),
        (charts["nodes"], ("worker", "server")),
    ):
        (out,) = (each for each in chart.of("NetworkPolicy") if each["metadata"]["name"].endswith(f"-{asks}"))
        (into,) = (each for each in chart.of("NetworkPolicy") if each["metadata"]["name"].endswith(f"-{answers}"))
        assert _ports(out, "egress", _selector(into)) == _ports(into, "ingress", _selector(out))


def _ports(policy: Manifest, direction: str, wanted: dict[str, str]) -> list[Any]:
    (found,) = (ports for peer, ports in peers(policy, direction) if peer == wanted)
    return found


def test_dashboards_and_rules_are_those_beside_the_chart(charts: dict[str, Rendered]) -> None:
    rules = {path.stem: yaml.safe_load(path.read_text()) for path in (DEPLOY / "prometheus").glob("*.yaml")}
    told = {each["metadata"]["name"]: each["spec"]["groups"] for each in charts["gpu"].of("PrometheusRule")}
    assert told == {f"search-swires-{name}": each["groups"] for name, each in rules.items() if "groups" in each} != {}
    boards = charts["gpu"].one("ConfigMap", "search-swires-dashboards")["data"]
    assert boards == {path.name: path.read_text() for path in (DEPLOY / "grafana").glob("*.json")} != {}


def test_they_are_no_copies() -> None:
    for path in (CHART / "files").rglob("*.*"):
        assert path.resolve().is_relative_to(DEPLOY / path.parent.name)
        assert path.is_symlink()


def test_policies_open_the_ports_of_the_pods_that_they_are_for(chart: Rendered) -> None:
    for policy in chart.of("NetworkPolicy"):
        (pod,) = (pod for _, pod in chart.pods() if selects(_selector(policy), pod))
        there = {port["containerPort"] for each in pod["spec"]["containers"] for port in each.get("ports", ())}
        assert {port for _, ports in peers(policy, "ingress") for port in ports} == there
