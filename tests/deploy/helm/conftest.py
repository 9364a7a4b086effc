import platform

import pytest

from tests.deploy.helm.chart import VALUES, Rendered, helm

CASES = {path.name.removesuffix("-values.yaml"): Rendered(path) for path in VALUES}


@pytest.fixture(scope="session", autouse=True)
def _helm() -> None:
    if helm() is None and (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("there is no helm: put one into PATH")
    assert helm(), "there is no helm: `make test-chart` puts it beside the environment's commands"


@pytest.fixture(params=CASES)
def chart(request: pytest.FixtureRequest) -> Rendered:
    """The chart rendered with each file of values in turn."""
    return CASES[request.param]


@pytest.fixture(scope="session")
def charts() -> dict[str, Rendered]:
    return CASES
