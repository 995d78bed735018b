# Targets for who changes the project; CONTRIBUTING.md says when to use them.

.PHONY: lock test test-fast lint format mutate bench speedrun fuzz torture audit-packages architecture pictures

test: .venv/ready ; $(PY) -m pytest -n auto --dist worksteal ## run all tests
test-fast: .venv/ready ; $(PY) -m pytest -n auto --dist worksteal -m "not slow" ## run the fast tests
lint: .venv/ready ; $(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy ## check style
format: .venv/ready ; $(PY) -m ruff format . && $(PY) -m ruff check --fix . ## format the code
mutate: .venv/ready ; $(PY) -m tests.mutants ## run mutation tests on the pure functions
bench: .venv/ready ; $(PY) -m benchmarks.bench --stage "$$STAGE" ## time all stages, or STAGE=text
speedrun: $(FOLDS_CSV) ## time the records of benchmarks/speedrun.toml, all or TARGET=0.99 or TARGET=seed [SEEDS="0 1 2"]
	$(PY) -m benchmarks.speedrun --data "$$DATA" --target "$$TARGET" --seeds "$${SEEDS:-0 1 2}"
fuzz: .venv/ready ## feed damaged files to a reader: TARGET=images [MINUTES=10]
	$(PY) -m uv pip install -qp $(PY) -r requirements-fuzz.txt && $(PY) -m tests.fuzz "$$TARGET" "$$MINUTES"
torture: .venv/ready ; $(PY) -m tests.torture "$$TARGET" ## disturb the stages, or TARGET=train, at random
audit-packages: .venv/ready ; $(PY) -m tests.audit ## look up known vulnerabilities and licenses of the locked packages
architecture: .venv/ready ; $(RUN).draw_architecture ## draw docs/architecture.svg from the imports
lock: .venv/ready ## pin requirements-dev.txt and all dependencies in requirements.lock
	$(PY) -m uv pip compile --quiet --python-version 3.11 requirements-dev.txt -o requirements.lock
pictures: .venv/ready ## make the pictures of README and docs from the embedded data
	@test -f runs/demo/evaluation.json || $(MAKE) --no-print-directory demo
	$(RUN).pictures
