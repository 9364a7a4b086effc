"""What may be said to the chart: every key is explained, every option of the server is one, the rest is refused."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from server.settings import Settings
from tests.deploy.helm.chart import CHART, Rendered, template

SCHEMA = CHART / "values.schema.json"
VALUES = CHART / "values.yaml"
REMEDY = "values.schema.json is not what the settings say: `make docs-options` writes it anew"

OTHERS = ("model", "host", "port", "api_keys", "allow_no_keys")
"""Settings that the chart makes of other values."""

OPEN = {"texts", "global"}
"""What cannot be listed: names of the operator's own."""

KUBERNETES = {"affinity", "strategy"}
"""What Kubernetes' own schema is for."""

ENOUGH = """
servingEngineSpec:
  apiKeys: {secretName: keys}
  modelSpec: [{name: demo, modelURL: /models/demo, requestGPU: 0}]
"""


def options() -> dict[str, Any]:
    """JSON schemas of the server's options, by the keys of swiresConfig."""
    told = Settings.model_json_schema(by_alias=False)["properties"]
    return {
        name: _plain(told[name])
        for name, field in Settings.model_fields.items()
        if name not in OTHERS and not field.exclude
    }


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in told.get("anyOf", [told]) if kind.get("type") != "null"]
    kept = {key: value for key, value in kinds[0].items() if key in KEPT}
    return {"description": told["description"], **kept}


KEPT = ("type", "enum", "items", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength")


def test_the_schema_has_the_options_of_the_server(write_docs: bool) -> None:
    schema = json.loads(SCHEMA.read_text())
    place = schema["definitions"]["swiresConfig"]
    if write_docs:
        place["properties"] = options()
        SCHEMA.write_text(json.dumps(schema, indent=2) + "\n")
    if place["properties"] != options():
        pytest.fail(REMEDY, pytrace=False)


def test_the_schema_is_one_and_takes_the_values(charts: dict[str, Rendered]) -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    for path in (VALUES, *(chart.values for chart in charts.values())):
        jsonschema.validate(yaml.safe_load(path.read_text()), schema, jsonschema.Draft7Validator)


def test_every_object_is_closed() -> None:
    for path, schema in _objects("", json.loads(SCHEMA.read_text())):
        name = path.rpartition(".")[2]
        assert schema.get("additionalProperties") is False or name in OPEN | KUBERNETES, path


def _objects(path: str, schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object" or "properties" in schema:
            yield path, schema
        for name, value in schema.items():
            yield from _objects(path if name in ("properties", "definitions", "items") else f"{path}.{name}", value)


def test_every_key_has_its_default_or_its_word_in_the_values() -> None:
    """Those without a default, as maxModelLen, stand in a comment."""
    schema = json.loads(SCHEMA.read_text())
    text = VALUES.read_text()
    for name, place in (("", schema), *schema["definitions"].items()):
        if name != "swiresConfig":  # `swires serve --help` explains these
            for key in place.get("properties", {}).keys() - {"global"}:
                assert re.search(rf"\b{key}\b", text), (name, key)


def test_every_line_of_the_values_is_explained() -> None:
    """By a comment on it or over it, or as part of a small thing that has one, but what turns things on."""
    parts: list[tuple[int, bool]] = []
    before = ""
    for line in VALUES.read_text().splitlines():
        if re.match(r"\s*[\w-]+:", line):
            depth = len(line) - len(line.lstrip())
            parts = [(at, explained) for at, explained in parts if at < depth]
            told = "#" in line or before.lstrip().startswith("#")
            assert told or any(each for _, each in parts) or line.strip().startswith("enabled:"), line
            parts.append((depth, told and depth > 0))
        before = line


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("servingEngineSpec: {modelSpec: [{name: demo, replicacount: 2}]}", "replicacount"),
        ("servingEngineSpec: {modelSpec: [{name: demo, swiresConfig: {timout_s: 2}}]}", "timout_s"),
        ("servingEngineSpec: {modelSpec: [{name: demo, swiresConfig: {preset: quick}}]}", "preset"),
        ("servingEngineSpec: {modelSpec: [{name: demo, swiresConfig: {max_images: 0}}]}", "max_images"),
        (
            "servingEngineSpec: {modelSpec: [{name: demo, vllmConfig: {enablePrefixCaching: false}}]}",
            "enablePrefixCaching",
        ),
        ("servingEngineSpec: {modelSpec: [{name: Demo}]}", "name"),
        ("servingEngineSpec: {modelSpec: [{modelURL: /models/demo}]}", "name"),
        ("servingEngineSpec: {shutdown: {preStop: 5}}", "preStop"),
        ("networkpolicy: {enabled: false}", "networkpolicy"),
        ("networkPolicy: {gatway: []}", "gatway"),
        ("podSecurity: {runAsUser: 0}", "runAsUser"),
        ("monitoring: {serviceMonitor: {enabled: yes please}}", "enabled"),
        ("servingEngineSpec: {apiKeys: {secretName: ''}}", "apiKeys.secretName: name the secret"),
        (
            "servingEngineSpec: {vllmConfig: {tensorParallelSize: 8}, modelSpec: [{name: a, modelURL: /m}]}",
            "requestGPU x nodes",
        ),
        (
            "servingEngineSpec: {nodes: 2, vllmConfig: {tensorParallelSize: 2}, modelSpec: [{name: a, modelURL: /m}]}",
            "must stay within a node",
        ),
        (
            "servingEngineSpec: {nodes: 2, vllmConfig: {dataParallelSize: 2}, modelSpec: [{name: a, modelURL: /m}]}",
            "goes within a node",
        ),
        ("servingEngineSpec: {modelSpec: [{name: a}]}", "which model"),
        ("servingEngineSpec: {inferencePool: {enabled: true}}", "endpointPicker.name"),
        ("servingEngineSpec: {httpRoute: {enabled: true}}", "parentRefs"),
        ("monitoring: {serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}", "counted twice"),
        (
            "{servingEngineSpec: {swiresConfig: {open_metrics: false}}, monitoring: {podMonitor: {enabled: true}}}",
            "podMonitor.bearerToken",
        ),
        ("{routerSpec: {enableRouter: true}, servingEngineSpec: {nodes: 2, requestGPU: 1}}", "nodes"),
    ],
)
def test_what_cannot_work_is_refused_by_name(tmp_path: Path, values: str, message: str) -> None:
    enough, given = tmp_path / "enough.yaml", tmp_path / "given.yaml"
    enough.write_text(ENOUGH)
    given.write_text(values)
    told = template("--values", str(enough), "--values", str(given))
    assert told.returncode
    assert message in told.stderr


def test_little_is_enough(tmp_path: Path) -> None:
    (tmp_path / "enough.yaml").write_text(ENOUGH)
    assert template("--values", str(tmp_path / "enough.yaml")).returncode == 0


def test_a_release_without_a_word_about_keys_is_refused() -> None:
    told = template()
    assert told.returncode
    assert "apiKeys.secretName" in told.stderr
