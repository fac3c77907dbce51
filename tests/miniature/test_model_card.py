"""The model card: the prompts it asks for, and the figures it writes into its text."""

from miniature import model_card
from miniature.attributes import CLASSES
from miniature.captions import PLACES


def test_held_out_prompts_name_what_is_asked_for():
    prompts = model_card.held_out_prompts(200)
    assert prompts == model_card.held_out_prompts(200)
    assert {prompt.noun for prompt in prompts} == set(CLASSES)
    assert {prompt.context for prompt in prompts} == set(PLACES)
    for prompt in prompts:
        assert prompt.noun in prompt.text
        assert PLACES[prompt.context][0] in prompt.text
        assert (prompt.color is None) == (prompt.noun == "face")
        assert prompt.color is None or f"{prompt.color} {prompt.noun}" in prompt.text


def test_the_card_keeps_its_text_and_gets_the_figures(tmp_path, monkeypatch):
    card = tmp_path / "README.md"
    card.write_text("before\n<!-- figures -->\nold\n<!-- /figures -->\nafter\n")
    monkeypatch.setattr(model_card, "CARD", card)
    for _ in range(2):
        model_card.write_card({"PSNR": "30 dB"})
    lines = ["before", "<!-- figures -->", "| what | measured |", "|---|---|", "| PSNR | 30 dB |", "<!-- /figures -->"]
    assert card.read_text().splitlines() == [*lines, "after"]


def test_the_shipped_card_has_a_place_for_the_figures():
    assert "<!-- figures -->\n" in model_card.CARD.read_text()
    assert "<!-- /figures -->" in model_card.CARD.read_text()
