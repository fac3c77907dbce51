from pathlib import Path

import pytest

from evaluation.spec import EvalSpec
from sweeper.settings import Settings, check_early_stop
from trainers.errors import SpecError

OFF = Settings(Path("out"), None, True, 1, 1, "all", None, None, "", "local")
ON = Settings(Path("out"), None, True, 1, 1, "all", "overfit", None, "", "local")
FEW = EvalSpec(("{}",) * 15)
ENOUGH = EvalSpec(("{}",) * 16)
ONE_PROMPT = EvalSpec(("{}",), images_per_prompt=16)


def test_ending_what_overfits_takes_prompts_to_say_so():
    with pytest.raises(SpecError, match="evaluation=quick has 15; take evaluation=paper"):
        check_early_stop(ON, [ENOUGH, FEW])
    check_early_stop(OFF, [FEW])
    check_early_stop(ON, [ENOUGH, ONE_PROMPT])
