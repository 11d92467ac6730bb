PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= demo

.PHONY: install demo test browser lint types clean

install: $(VENV)/.installed

# Torch is not pinned: pip takes torch and the torchvision that matches it.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[app,eval,dev]'
	touch $@

demo: install
	$(BIN)/tokenrank sample --compare --out $(OUT)

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto

# The explorer's page in headless Chromium, which the system must have.
browser: install
	$(BIN)/python -m pytest -m browser tests/app/browser

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/pyright

clean:
	rm -rf $(VENV) $(OUT) build *.egg-info
