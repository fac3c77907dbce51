"""The engines that there are, and a fake one, against the contract."""

import pytest

from sweeper.engine.inline import InlineEngine
from sweeper.engine.local import LocalEngine
from tests.sweeper.engine.contract import (  # noqa: F401  - fixtures
    Contract,
    _one_core,
    configured,
    reference,
    workplace,
)
from tests.sweeper.engine.fake import FakeEngine
from tests.sweeper.engine.light import handle


class LightLocal(LocalEngine):
    module = "tests.sweeper.engine.light"


class LightInline(InlineEngine):
    handler = staticmethod(handle)


class RealFake(FakeEngine):
    module = "sweeper.engine.worker"


class TestLocal(Contract):
    light = LightLocal
    real = LocalEngine


class TestInline(Contract):
    light = LightInline
    real = InlineEngine
    killable = False


@pytest.mark.faults
class TestFake(Contract):
    light = FakeEngine
    real = RealFake
