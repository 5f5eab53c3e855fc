# Each target makes or mends its own environment first: `make test` is enough after a clone.
.DEFAULT_GOAL := help
.PHONY: help env demo test lint format bench conformance wheel pins clean

PYTHON := .venv/bin/python
# Airflow starts many processes; each is twice as quick with bytecode on disk.
unexport PYTHONDONTWRITEBYTECODE

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

# Always asked: the script compares contents, where make would compare times.
env: ## make or mend .venv from the pins
	@./bootstrap.sh

demo: env ## both systems simulated, a real Airflow; ONCE=1 verifies, stops and exits; QAD=qxtend reads QAD over SOAP
	$(PYTHON) -m airflow_provider_qadzd.sandbox.demo $(if $(ONCE),--once) $(if $(QAD),--qad $(QAD))

test: env ## every test, end to end included
	$(PYTHON) -m pytest --numprocesses auto --dist loadfile

lint: env ## ruff and mypy --strict
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy --strict airflow_provider_qadzd

format: env ## let ruff put the code in order
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

bench: env ## measure; writes build/bench.json
	$(PYTHON) -m tests.bench

conformance: env ## judge the sandbox and our requests by Zendesk's OpenAPI file: SPEC=path
	@test -n "$(SPEC)" || { echo "conformance needs Zendesk's OpenAPI file: make conformance SPEC=path/to/zendesk-openapi.yaml" >&2; exit 2; }
	@test -r "$(SPEC)" || { echo "conformance: cannot read $(SPEC)" >&2; exit 2; }
	$(PYTHON) -m tests.conformance "$(SPEC)"

wheel: env ## build sdist and wheel into dist/
	$(PYTHON) -m hatchling build

# Other sources of packages are left out, or the pins would hold hashes that only one machine knows.
COMPILE = env -u PIP_FIND_LINKS -u UV_FIND_LINKS UV_PYTHON_DOWNLOADS=never UV_CUSTOM_COMPILE_COMMAND="make pins" uv pip compile --quiet \
	--universal --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.10 $(if $(UPGRADE),--upgrade)

pins: ## compile requirements/ again (needs uv on PATH); UPGRADE=1 takes newer releases
	$(COMPILE) --all-extras --group dev pyproject.toml -o requirements/dev.txt
	echo uv | $(COMPILE) - -o requirements/uv.txt

clean: ## remove all that these targets made
	rm -rf .venv .tools .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find airflow_provider_qadzd dags tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
