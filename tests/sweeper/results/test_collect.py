from dataclasses import replace

from sweeper.plan.compile import compile_plan
from sweeper.results.collect import params_of


def test_a_training_tells_what_sets_it_apart_and_what_all_of_its_cells_share(make_cell):
    shared = {"lr": 2e-6, "trainer.ema_decay": 0.9, "evaluation.images_per_prompt": 1}
    cells = [
        replace(make_cell(step=step, scheduler=scheduler), params=tuple((shared | own).items()))
        for step, scheduler, own in (
            (100, "pndm", {"steps": 100, "scheduler": "pndm", "evaluation.seed": 0}),
            (200, "ddim", {"steps": 200, "scheduler": "ddim", "evaluation.seed": 1}),
        )
    ]
    (training,) = compile_plan(cells).trainings
    assert params_of(training) == shared
