"""The page of the options is that of the present code."""

import pytest

from server.settings import Settings
from tests.server.docs import options

REMEDY = "server/docs/options.md is not what the settings say: `make docs-options` writes it anew"


def test_the_page_is_up_to_date(write_docs: bool) -> None:
    if write_docs:
        options.PAGE.write_text(options.page())
    if options.PAGE.read_text() != options.page():
        pytest.fail(REMEDY, pytrace=False)


def test_every_option_is_told_and_explained() -> None:
    page = options.page()
    for name, field in Settings.model_fields.items():
        assert f"`{options.as_variable(name) if field.exclude else options.as_option(name)}`" in page
        assert field.exclude or field.description
