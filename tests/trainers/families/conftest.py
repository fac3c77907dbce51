import pytest

from tests.trainers import tiny
from tests.trainers.families.pipelines import KINDS, PIPELINES
from trainers.families import family_of
from trainers.families.base import Components, Family, ForwardProcess
from trainers.spec import ModelSpec


@pytest.fixture(scope="module", params=KINDS, ids=" ".join)
def pipeline_model(request, tmp_path_factory):
    family, kind = request.param
    folder = PIPELINES[family][kind](tmp_path_factory.mktemp("pipeline"))
    return ModelSpec(revision=str(folder), family=family, repo=str(folder), resolution=tiny.RESOLUTION)


@pytest.fixture
def family(pipeline_model) -> Family:
    return family_of(pipeline_model)


@pytest.fixture
def components(family, pipeline_model) -> Components:
    return family.load(pipeline_model)


@pytest.fixture
def process(family, components) -> ForwardProcess:
    return family.forward_process(components)
