PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= demo
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: install demo test extended browser oldest wheel lint types docs clean

# What the commands and guidance need, and no more.
$(VENV)/.package: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

# Torch is not pinned: pip takes torch and the torchvision that matches it.
$(VENV)/.installed: $(VENV)/.package
	$(PIP) -e '.[app,eval,dev,docs]'
	touch $@

install: $(VENV)/.installed

demo: $(VENV)/.package
	$(BIN)/tokenrank sample --compare --out $(OUT)

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto

# What takes longer and changes seldom: blocks of the pages, notebooks, the site, memory, compilers, training, real data.
extended: install
	$(BIN)/python -m pytest -n auto -m extended

# The explorer's page in headless Chromium, which the system must have.
browser: install
	$(BIN)/python -m pytest -m browser tests/app/browser

# The same as test with the oldest versions that pyproject.toml allows.
oldest:
	test -x .oldest/bin/uv || { $(PYTHON) -m venv .oldest && .oldest/bin/python -m pip install --quiet uv; }
	.oldest/bin/uv pip install --quiet --python .oldest --resolution lowest-direct -e '.[app,eval,dev,docs]'
	.oldest/bin/python -m pytest -n auto

wheel: install
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/pyright

# In build/site; a broken link or reference fails.
docs: install
	$(BIN)/python -m scripts.docs.site
	$(BIN)/zensical build --clean --strict
	$(BIN)/python -m scripts.docs.links build/site

clean:
	rm -rf $(VENV) .oldest $(OUT) build dist *.egg-info
