PYTHON ?= python3
BIN := .venv/bin
MODEL ?= miniature

.PHONY: setup sweep blog gpu test test-faults test-options test-gpus test-pages test-all lint miniature

setup: .venv/.installed

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

sweep: setup
	$(BIN)/python sweep.py -m lr=1e-6,2e-6,5e-6

# The post's twelve claims. With BLOG_SEEDS=3 there are verdicts: three hours on 2 cores, and the same command goes on.
# Another model needs photographs: make blog MODEL=sd14 PHOTOS=DIR (python -m sweeper.blog --help)
blog: setup
	$(BIN)/python -m sweeper.blog $(if $(PHOTOS),--photos "$(PHOTOS)") model=$(MODEL) $(if $(filter-out 1,$(BLOG_SEEDS)),seed=$(shell $(PYTHON) -c "print(*range($(BLOG_SEEDS)), sep=',')")) $(ARGS)

# Accepts a GPU: speed, memory, repeatability, faults. ARGS=--small runs without one.
gpu: setup
	$(BIN)/python -m benchmarks.gpu $(if $(FAMILY),--family $(FAMILY)) $(ARGS)

# The tests' models are tiny: a second thread only waits.
TESTS := test test-faults test-options test-gpus test-pages test-all
$(TESTS): export OMP_NUM_THREADS = 1
$(TESTS): export HF_HUB_OFFLINE = 1
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

test: setup
	$(PYTEST) -m 'not slow and not faults and not options and not gpus and not pages'

test-faults: setup
	$(PYTEST) -m faults

test-options: setup
	$(PYTEST) -m options

test-gpus: setup
	$(PYTEST) -m 'gpus and not faults and not slow'

test-pages: setup
	$(PYTEST) -m pages

test-all: setup
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

miniature: setup
	$(BIN)/python -m miniature.pretrain
