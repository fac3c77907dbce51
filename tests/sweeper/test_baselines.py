"""Where the baselines and the class images of a training are: `lr_scale` changes neither."""

from dataclasses import replace

from sweeper.plan.compile import compile_plan, cost
from sweeper.store import Store


def test_another_lr_scale_has_the_same_baselines_and_class_images(make_cell, tmp_path):
    store, cell = Store(tmp_path), make_cell(prior=True)
    scaled = replace(cell, train=replace(cell.train, lr_scale=2.0))
    plan = compile_plan([cell, scaled])
    (one, other) = plan.trainings
    assert store.training(one.spec) != store.training(other.spec)
    assert store.baselines(one.spec, one.points[0]) == store.baselines(other.spec, other.points[0])
    assert store.class_images(one.spec) == store.class_images(other.spec)
    images = cost([store.left(training) for training in plan.trainings], store).images
    alone = cost([store.left(one)], store).images
    assert images == alone + sum(point.images for point in other.points)


def test_the_baselines_of_an_old_store_are_found(make_cell, tmp_path):
    """Revision 6044e38 named them with the lr_scale."""
    store, cell = Store(tmp_path), make_cell()
    (training,) = compile_plan([replace(cell, train=replace(cell.train, lr_scale=150.0))]).trainings
    (point,) = training.points
    old = tmp_path / "baselines" / "5bf0b51ee06c7762"
    assert store.baselines(training.spec, point) != old
    old.mkdir(parents=True)
    assert store.baselines(training.spec, point) == old
    assert not store.has_baselines(training.spec, point)
    (old / "values.json").write_text("{}")
    assert store.has_baselines(training.spec, point)


def test_class_images_are_named_by_all_that_matters(make_cell, tmp_path):
    store, spec = Store(tmp_path), make_cell(prior=True).train
    one = store.class_images(spec)
    assert one == store.class_images(replace(spec, prior=replace(spec.prior, weight=0.5)))
    others = [
        replace(spec, model=replace(spec.model, revision="s")),
        replace(spec, subject=replace(spec.subject, class_prompt="a photo of a cat")),
        *(replace(spec, prior=replace(spec.prior, **change)) for change in ({"seed": 1}, {"num_class_images": 6})),
        replace(spec, prior=replace(spec.prior, sample=replace(spec.prior.sample, inference_steps=2))),
    ]
    assert len({one, *map(store.class_images, others)}) == 6
