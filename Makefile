# From a competition's download to a scored submission. Plain `make` lists the targets.
# A finished stage runs again when its recipe, folds or options change; evaluate and predict also check DATA.

GIVEN := $(foreach name,SET SEED RECIPE,$(if $(filter undefined,$(origin $(name))),,$(name)))
COMPETITION ?= carvana
RECIPE      ?= baseline
FOLD        ?= 0
PYTHON      ?= python3
# SET and SEED that are not given are those of the last training, which runs/*/.options keeps; SET= resets.
SET_OPTIONS := $(if $(filter SET,$(GIVEN)),--set "$$SET") $(if $(filter SEED,$(GIVEN)),--seed "$$SEED")
# Pass values to the scripts exactly as typed: make must not expand them, and the shell sees only "$NAME".
VALUES := COMPETITION RECIPE DATA FOLD FOLDS SEED SET IMG MODEL MSG FILE FILES WEIGHTS OUT KAGGLE_USER \
  WHEELS DRY_RUN FORCE RESUME PREDICT ALLOW_BROKEN TARGET MINUTES STAGE SUBMISSION RECIPES FULL PRICE PORT \
  GPUS CLUSTER SHARD FLIPS STORE KEEP SEEDS
$(foreach name,$(VALUES),$(eval override $(name) := $$(value $(name))))
export $(VALUES)
ifneq ($(MAKECMDGOALS),new)
# COMPETITION and RECIPE become parts of target names, so each must be the name of an existing file.
FILES_NAMED := competitions/$(COMPETITION).toml $(patsubst %,recipes/%.toml,$(subst +, ,$(RECIPE)))
$(foreach file,$(FILES_NAMED),$(if $(filter $(file),$(wildcard $(dir $(file))*.toml)),,\
  $(error $(file): no such file; there is $(wildcard $(dir $(file))*.toml))))
# Paths and rules of folds, train, evaluate and predict, written by pipeline/rules.py.
export RULES := .make/$(COMPETITION)-$(RECIPE).mk
include $(RULES)
$(RULES): $(wildcard competitions/*.toml) pipeline/rules.py pipeline/stages.py pipeline/paths.py
	@$(PYTHON) -m scripts.rules
endif
PY  := .venv/bin/python
RUN := $(PY) -m scripts
# By default torchrun keeps its store over a restart; there processes find the addresses of those that died.
TRAIN := $(if $(GPUS),TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 $(PY) -m torch.distributed.run --standalone \
  --nproc-per-node "$$GPUS" --max-restarts 3 -m scripts.train,$(RUN).train)
DATA_OPTIONS := --competition "$$COMPETITION" --data "$$DATA"
.DEFAULT_GOAL := help
.PRECIOUS: $(TRAINED) $(TRAINED_FOLD) $(EVALUATION) $(FOLDS_CSV) $(SUBMISSION_CSV) # complete if they exist
.PHONY: FORCE help setup new check folds train train-all side-by-side evaluate predict predict-part cluster \
  merge score estimate gain blend overlay export report compare audit pseudo watch serve download account \
  submit scores leaderboard kernel kaggle-standin demo clean clean-all

help: ## list the targets
	@echo 'make TARGET [COMPETITION=carvana] [RECIPE=baseline] [DATA=folder] [FOLD=0] [FOLDS="0 1"] [SET="..."]'
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile tests/tools.mk | \
	  awk -F'\t' '{ printf "  %-14s %s\n", $$1, $$2 }'

setup: .venv/ready ## install the packages into .venv (done automatically)
.venv/ready: requirements.lock
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	$(PY) -m uv pip sync --quiet --compile-bytecode --require-hashes --python $(PY) requirements.lock
	@touch $@
new: .venv/ready ; $(RUN).new $(DATA_OPTIONS) ## draft competitions/COMPETITION.toml from the files in DATA
check: .venv/ready ; $(RUN).check $(DATA_OPTIONS) ## check every image, mask and CSV of the data
folds: $(FOLDS_CSV) ## split the training images by group
train: $(TRAINED_FOLD) ## train FOLD: a number, or "all" to validate on nothing [GPUS=2: on both]
train-all: $(or $(if $(CLUSTER),cluster),$(if $(GPUS),side-by-side),$(TRAINED)) ## train all folds [GPUS=2]
side-by-side: ## train-all with GPUS: a GPU for each fold, the others wait for a free one
	+@TQDM_DISABLE=1 GPU_SLOTS="$$GPUS" $(MAKE) --no-print-directory -k -j "$$GPUS" train-all GPUS=
evaluate: $(EVALUATION) ## score the out-of-fold predictions
predict: $(or $(if $(CLUSTER),cluster),$(if $(SHARD),predict-part),$(SUBMISSION_CSV)) ## predict, checked
predict-part: .venv/ready ## predict a part, SHARD=1/4, on one of several machines
	$(RUN).predict $(DATA_OPTIONS) --recipe "$$RECIPE" --folds "$$FOLDS" --shard "$$SHARD"
cluster: $(STAMPS) $(FOLDS_CSV) ## run train-all or predict on a Ray cluster, CLUSTER=local|auto|address
	$(RUN).cluster "$(filter train-all predict,$(MAKECMDGOALS))" $(DATA_OPTIONS) --recipe "$$RECIPE" \
	  --folds "$$FOLDS" --cluster "$$CLUSTER" $(SET_OPTIONS)
merge: .venv/ready ; $(RUN).merge $(DATA_OPTIONS) --recipe "$$RECIPE" --folds "$$FOLDS" ## join the parts
folds train train-all evaluate predict:
	@$(PYTHON) -m scripts.up_to_date $(STARTED) $^
score: $(SUBMISSION_CSV) ; $(RUN).score $< $(DATA_OPTIONS) ## score it where the true masks are known
estimate: .venv/ready ## estimate GPU memory and time of a recipe
	$(RUN).estimate $(DATA_OPTIONS) --recipe "$$RECIPE" $(SET_OPTIONS)
pseudo: $(TRAINED_FOLD) ## label the test images, or IMG, with FOLD's network for train.pseudo [KEEP=0.9]
	$(RUN).pseudo $(DATA_OPTIONS) --recipe "$$RECIPE" --fold "$$FOLD" --images "$$IMG" --keep "$${KEEP:-0.9}"
gain: .venv/ready ; $(RUN).gain "$$FILES" ## difference of two: FILES="before/oof.csv after/oof.csv"
blend: .venv/ready ## majority vote of submissions: FILES="a.csv.gz b.csv.gz" [WEIGHTS="2 1"] [OUT=file]
	$(RUN).blend "$$FILES" --competition "$$COMPETITION" --weights "$$WEIGHTS" --out "$$OUT"
overlay: .venv/ready ## predict images: IMG=file or folder [MODEL=weights or run]
	$(RUN).overlay "$$IMG" --competition "$$COMPETITION" --recipe "$$RECIPE" --weights "$$MODEL"
export: .venv/ready ## write the network as ONNX and torch.export programs, checked [MODEL, FLIPS="none"]
	$(RUN).export $(DATA_OPTIONS) --recipe "$$RECIPE" --weights "$$MODEL" --flips "$$FLIPS"
report: $(if $(SUBMISSION),.venv/ready,$(EVALUATION)) ## page of a run [FULL=1, PRICE=2.5], or SUBMISSION=file
	$(RUN).report $(DATA_OPTIONS) --recipe "$$RECIPE" --price "$$PRICE" $(if $(FULL),--full) \
	  $(if $(SUBMISSION),--submission "$$SUBMISSION")
audit: $(EVALUATION) ; $(RUN).audit $(DATA_OPTIONS) --recipe "$$RECIPE" ## list suspicious training masks
compare: .venv/ready ; $(RUN).compare_recipes "$$RECIPES" $(DATA_OPTIONS) ## page of two: RECIPES="a b"
watch: .venv/ready ## show the curves of trainings, live, in a browser [RECIPE, PORT]
	$(RUN).watch --competition "$$COMPETITION" $(if $(filter RECIPE,$(GIVEN)),--recipe "$$RECIPE")
serve: .venv/ready ## page that predicts photos dropped on it [MODEL=weights or run, PORT=8000]
	$(RUN).serve --competition "$$COMPETITION" --recipe "$$RECIPE" --weights "$$MODEL" \
	  $(if $(PORT),--port "$$PORT")
download: .venv/ready ; $(RUN).download $(DATA_OPTIONS) ## download, unpack and check the data; resumes
account: .venv/ready ; @$(RUN).account ## check that there are Kaggle credentials
submit: account $(if $(FILE),,$(SUBMISSION_CSV)) ## upload, wait for the score [MSG, DRY_RUN, FORCE, FILE]
	$(RUN).submit $(DATA_OPTIONS) --recipe "$$RECIPE" --file "$$FILE" --message "$$MSG" \
	  $(if $(DRY_RUN),--dry-run) $(if $(FORCE),--force)
scores: .venv/ready ; $(RUN).scores --competition "$$COMPETITION" ## update submissions/ledger.csv
leaderboard: .venv/ready ; $(RUN).leaderboard --competition "$$COMPETITION" ## show the leaderboard, your rank
kernel: .venv/ready ## write a Kaggle kernel that trains, or PREDICT=1 [RESUME, WHEELS]
	$(RUN).kernel --competition "$$COMPETITION" --recipe "$$RECIPE" --folds "$$FOLDS" $(SET_OPTIONS) \
	  --user "$$KAGGLE_USER" --wheels "$$WHEELS" $(if $(RESUME),--resume) $(if $(PREDICT),--predict)
kaggle-standin: .venv/ready ; $(PY) -m tests.standin $(DATA_OPTIONS) ## run a local Kaggle that offers DATA
demo: data/demo/solution.csv ## run all stages on rendered cars, on a CPU, in some minutes
	@$(MAKE) --no-print-directory check folds train-all evaluate predict score \
	  COMPETITION=demo RECIPE=demo DATA=data/demo FOLDS= SET= SEED= GPUS= CLUSTER= SHARD=
	$(RUN).demo
data/demo/solution.csv: | .venv/ready ; $(RUN).render --out data/demo
clean: ## delete what the demonstration and the tests made
	rm -rf data/demo runs/demo folds/demo.csv submissions/demo.* overlays/demo reports/demo \
	  .make .*_cache .hypothesis
clean-all: clean ; rm -rf .venv ## delete the installed packages too; data, runs and submissions stay
include tests/tools.mk
