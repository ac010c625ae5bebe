# make demo: the whole journey, offline.  make test: everything that has to hold.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test clean

.venv/base: settings.ini setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -e .
	touch $@

.venv/dev: .venv/base
	$(BIN)/pip install --quiet -e '.[train,dev]'
	touch $@

demo: .venv/base
	$(BIN)/archclf demo --out demo
	@echo "(the command is $(BIN)/archclf)"

tests/node_modules: tests/package.json tests/package-lock.json
	npm ci --silent --prefix tests
	touch $@

test: .venv/dev tests/node_modules
	$(BIN)/python tools/check.py

clean:
	rm -rf .venv demo _proc _docs tests/node_modules
