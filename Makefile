# From the download to a scored submission. Every stage is a file: what is done is skipped, what changed is done again.

COMPETITION ?= carvana
RECIPE      ?= baseline
DATA        ?= data/$(COMPETITION)
FOLD        ?= 0
SEED        ?=
SET         ?=
IMG         ?=
# One's own runs, or else the network that came along.
MODEL       ?= $(firstword $(if $(wildcard $(RUNS)/fold[0-9]/weights.safetensors $(RUNS)/all/weights.safetensors),$(RUNS)) $(wildcard weights/$(COMPETITION)-*.safetensors) $(RUNS))
MSG         ?=
OUT         ?= submissions/blend.csv.gz

# folds = 5 in the competition's file, or in the one it is based on → 0 1 2 3 4. FOLDS="0" evaluates and predicts with
# the first one alone.
BASE        := $(shell sed -n 's/^base *= *"\(.*\)".*/\1/p' competitions/$(COMPETITION).toml 2>/dev/null)
RULES       := $(patsubst %,competitions/%.toml,$(BASE) $(COMPETITION))
COUNT       := $(lastword $(shell sed -n 's/^folds *= *\([0-9]*\).*/\1/p' $(RULES) 2>/dev/null))
FOLDS       ?= $(shell seq 0 $$(( $(or $(COUNT),1) - 1 )))

PYTHON      ?= python3
PY          := .venv/bin/python
# RECIPE=cpu+baseline is the mean of two recipes; each is trained in its own runs.
RECIPES     := $(subst +, ,$(RECIPE))
ifneq ($(words $(RECIPES)),$(words $(sort $(RECIPES))))
$(error RECIPE=$(RECIPE) names a recipe twice; each can stand in a mean once)
endif
ifneq ($(filter all,$(FOLDS)),)
$(error FOLDS=all cannot be judged: nothing is held out. Train with FOLD=all, and use the weights with make overlay)
endif
name         = $(if $(filter $(COMPETITION),$(1)),$(1),$(COMPETITION)-$(1))
NAME        := $(call name,$(RECIPE))
RUNS        := runs/$(NAME)
SUBMISSION  := submissions/$(NAME).csv.gz
SPLIT       := folds/$(COMPETITION).csv
CHOICES     := $(foreach choice,$(SET) $(SEED:%=seed=%),--set '$(choice)')
STAGE        = $(PY) -m scripts.$(1) --competition $(COMPETITION) --data $(DATA)
weights      = runs/$(call name,$(1))/$(2)/weights.safetensors
TRAINED     := $(foreach recipe,$(RECIPES),$(foreach fold,$(FOLDS:%=fold%),$(call weights,$(recipe),$(fold))))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Written whole or not at all; an interrupted make must not delete the work of hours.
.PRECIOUS: $(foreach recipe,$(RECIPES),$(call weights,$(recipe),%)) $(RUNS)/evaluation.json $(SPLIT) $(SUBMISSION)
.PHONY: FORCE help setup check folds train one-recipe train-all evaluate predict score estimate gain blend overlay download submit scores leaderboard kernel kaggle-standin demo test lint format lock clean clean-all

help: ## this list
	@echo 'make STAGE [COMPETITION=$(COMPETITION)] [RECIPE=$(RECIPE)] [DATA=$(DATA)] [FOLD=$(FOLD)] [FOLDS="$(FOLDS)"] [SEED=…] [SET="train.epochs=3 …"]'
	@echo
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "  %-14s %s\n", $$1, $$2 }'

# ---- set-up

setup: .venv/ready ## install everything into .venv (done by itself when missing or stale)

# uv installs the lock in a fraction of pip's time; it comes by pip, so that Python is all one needs.
.venv/ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name one with make PYTHON=python3.12")'
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	$(PY) -m uv pip sync --quiet --require-hashes --python $(PY) requirements.lock
	@touch $@

lock: | .venv/ready ## pin requirements.txt and everything below it into requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements.txt -o requirements.lock

# ---- the stages

check: .venv/ready ## is the data whole? every image, mask and CSV
	$(call STAGE,check)

folds: $(SPLIT) ## split the training images by group

$(SPLIT): $(RULES) | .venv/ready
	$(call STAGE,folds)

train: $(if $(word 2,$(RECIPES)),one-recipe,$(call weights,$(RECIPE),$(patsubst foldall,all,fold$(FOLD)))) ## train one fold: make train FOLD=0; FOLD=all holds nothing out

one-recipe:
	@echo 'error: $(RECIPE) is several recipes; name the one to train, or train all folds of each with make train-all' >&2; exit 2

train-all: $(TRAINED) ## train every fold that is missing

# What was said on the command line is in no file, so it gets one, that changes only when it does.
STAMPS := $(foreach recipe,$(RECIPES),runs/$(call name,$(recipe))/.choices)
$(STAMPS): export STAMP = $(CHOICES)
$(RUNS)/.scope: export STAMP = $(abspath $(DATA)) $(FOLDS) $(CHOICES)
$(STAMPS) $(RUNS)/.scope: FORCE
	@mkdir -p $(@D); printf '%s\n' "$$STAMP" | cmp -s - $@ || printf '%s\n' "$$STAMP" > $@

# A name that does not exist is for the stage to explain.
competitions/%.toml recipes/%.toml: ;

define TRAINING
$(call weights,$(1),%): recipes/$(1).toml $(SPLIT) runs/$(call name,$(1))/.choices | .venv/ready
	$$(call STAGE,train) --recipe $(1) --fold $$(*:fold%=%) $$(CHOICES)
endef
$(foreach recipe,$(RECIPES),$(eval $(call TRAINING,$(recipe))))

evaluate: $(RUNS)/evaluation.json ## out-of-fold score, interval, threshold, worst images; of a mean: RECIPE=one+other

$(RUNS)/evaluation.json: $(TRAINED) $(RUNS)/.scope
	$(call STAGE,evaluate) --recipe $(RECIPE) --fold "$(FOLDS)" $(CHOICES)

predict: $(SUBMISSION) ## predict the test set with all recipes, folds and flips: submissions/<competition>-<recipe>.csv.gz

$(SUBMISSION): $(RUNS)/evaluation.json $(RUNS)/.scope
	$(call STAGE,predict) --recipe $(RECIPE) --fold "$(FOLDS)" $(CHOICES)

score: $(SUBMISSION) ## score the submission where the truth is known
	$(PY) -m scripts.score $(SUBMISSION) --competition $(COMPETITION) --data $(DATA)

blend: .venv/ready ## weighted vote of finished submissions: FILES="a.csv.gz b.csv.gz" [WEIGHTS="2 1"] [OUT=…]
	@test -n '$(FILES)' || { echo 'error: which files? make blend FILES="a.csv.gz b.csv.gz"' >&2; exit 2; }
	$(PY) -m scripts.blend $(FILES) $(if $(WEIGHTS),--weights "$(WEIGHTS)") --out $(OUT)

estimate: .venv/ready ## GPU memory and time of RECIPE, estimated from its operations without running it
	$(PY) -m scripts.estimate --recipe $(RECIPE) $(CHOICES)

gain: .venv/ready ## what one choice adds, with its interval: FILES="without/oof.csv with/oof.csv"
	@test -n '$(FILES)' || { echo 'error: which tables? make gain FILES="one/oof.csv other/oof.csv"' >&2; exit 2; }
	$(PY) -m scripts.gain $(FILES)

overlay: .venv/ready ## mask, and mask over picture: make overlay IMG=photo.jpg [MODEL=weights or run]
	@test -n '$(IMG)' || { echo 'error: which picture? make overlay IMG=photo.jpg' >&2; exit 2; }
	$(PY) -m scripts.overlay $(IMG) --weights $(MODEL)

# ---- Kaggle

download: .venv/ready ## fetch, unpack and check the competition's data; goes on where it stopped
	$(call STAGE,download)

submit: export MSG := $(MSG)
submit: $(if $(FILE),,$(SUBMISSION)) | .venv/ready ## upload and wait for the score: MSG="…" [DRY_RUN=1] [FORCE=1] [FILE=other.csv.gz]
	$(PY) -m scripts.submit $(or $(FILE),$(SUBMISSION)) --competition $(COMPETITION) --data $(DATA) --message "$$MSG" $(if $(DRY_RUN),--dry-run) $(if $(FORCE),--force)

scores: .venv/ready ## bring submissions/ledger.csv up to date
	$(PY) -m scripts.scores --competition $(COMPETITION)

leaderboard: .venv/ready ## where one stands
	$(PY) -m scripts.leaderboard --competition $(COMPETITION)

kernel: .venv/ready ## a folder for `kaggle kernels push`: train on Kaggle's GPUs (RESUME=1 from the second version on)
	$(PY) -m scripts.kernel --competition $(COMPETITION) --recipe $(RECIPE) --fold "$(FOLDS)" $(CHOICES) $(if $(RESUME),--resume) $(if $(KAGGLE_USER),--user $(KAGGLE_USER))

kaggle-standin: .venv/ready ## a Kaggle without an account: offers DATA as the competition, scores what is submitted
	$(PY) -m tests.standin --competition $(COMPETITION) --data $(DATA)

# ---- the demonstration

# Whatever the caller's shell has set, the demonstration is this one.
DEMO := COMPETITION=demo RECIPE=demo DATA=data/demo FOLDS="0 1" SET= SEED=

demo: .venv/ready ## the whole pipeline on rendered cars, on a CPU, in some minutes
	@$(MAKE) --no-print-directory data/demo/solution.csv
	@$(MAKE) --no-print-directory check folds train-all evaluate predict score $(DEMO)
	$(PY) -m scripts.overlay $$(ls data/demo/test/*_0[147].jpg) --weights runs/demo --out overlays/demo
	@$(PY) -m scripts.summary --competition demo --recipe demo --data data/demo

data/demo/solution.csv: | .venv/ready
	$(PY) -m scripts.render --out data/demo

# ---- the project itself

test: .venv/ready ## all tests
	$(PY) -m pytest

lint: .venv/ready ## style and common mistakes
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: .venv/ready ## put the code into the common form
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

clean: ## remove what the demonstration and the tests made
	rm -rf data/demo runs/demo folds/demo.csv submissions/demo.csv.gz submissions/demo.json overlays/demo .pytest_cache .ruff_cache .hypothesis
	find pipeline scripts tests -name __pycache__ -type d -exec rm -rf {} +

clean-all: clean ## the same, and the installed packages; data, runs and submissions stay
	rm -rf .venv
