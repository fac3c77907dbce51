"""What Python gives to the scripts of report.html has the same keys on both sides."""

import pytest

from evaluation.metrics import METRICS
from sweeper.report import effects, page_data, page_images
from sweeper.report.page import TEMPLATES
from sweeper.report.titles import description, title
from tests.sweeper.report.synthetic import make_results
from tests.sweeper.script_types import in_python, in_script

FOR_TEMPLATE = {"Picture", "Strip"}  # of page_images: shown without a script


def test_the_scripts_know_every_type_of_their_data():
    scripts = in_script(TEMPLATES / "core.js")
    python = in_python(page_data, page_images, effects)
    assert scripts == {name: keys for name, keys in python.items() if name not in FOR_TEMPLATE}


def test_the_data_has_the_keys_of_its_types(tmp_path):
    results = make_results(tmp_path, {"lr": (1e-6, 2e-6), "steps": (400, 800)})
    data, images = page_data.page_data(results), page_images.page_images(results)
    types = in_python(page_data, page_images, effects)
    assert set(data) == types["PageData"]
    assert set(data["about"]) == set(data["metrics"])
    assert all(set(axis) == types["PageAxis"] for axis in data["axes"].values())
    assert all(set(about) == types["PageMetric"] for about in data["about"].values())
    assert all(set(found) == types["Effects"] for found in data["effects"].values())
    assert set(images) == types["PageImages"]
    assert all(set(tile) == types["ImageTile"] for tile in images["tiles"])


@pytest.mark.parametrize("name", [*METRICS, "expected_score", "score", "fresh_score", "p_best", "s", "t"])
def test_a_metric_is_written_out_where_a_person_reads_it(name):
    assert title(name)
    assert title(name) not in ("pres", "div")
    assert description(name).endswith(".")


def test_a_metric_that_is_not_known_has_its_own_name():
    assert (title("mine"), description("mine")) == ("mine", "")
