PYTHON ?= python3
BIN := .venv/bin
# One thread a core is the fastest; without this, every test process takes all cores for itself.
export HF_HUB_OFFLINE ?= 1

MODEL ?= miniature

.PHONY: setup sweep blog test test-all lint miniature

setup: .venv/.installed

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

sweep: setup
	$(BIN)/python sweep.py -m lr=1e-6,2e-6,5e-6

# The post's twelve claims. Another model needs photographs: make blog MODEL=sd14 PHOTOS=DIR (python -m sweeper.blog --help)
blog: setup
	$(BIN)/python -m sweeper.blog $(if $(PHOTOS),--photos "$(PHOTOS)") model=$(MODEL) $(ARGS)

test: setup
	$(BIN)/python -m pytest -m 'not slow'

test-all: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

miniature: setup
	$(BIN)/python -m miniature.pretrain
