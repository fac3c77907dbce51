from sweeper.plan.axes import describe


def test_parameters_are_described_as_typed_in_the_order_asked():
    params = {"lr": 2e-6, "steps": 400, "use_ema": False, "trainer.text_encoder_lr": None}
    assert describe(params, ["steps", "lr"]) == "steps=400 lr=2e-6"
    assert describe(params, ["use_ema", "trainer.text_encoder_lr"]) == "use_ema=false trainer.text_encoder_lr=null"
    assert describe(params, ["no_such", "lr"]) == "lr=2e-6"
