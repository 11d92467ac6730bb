PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= demo

.PHONY: install demo test lint types docs clean

install: $(VENV)/.installed

# Torch is not pinned: pip takes torch and the torchvision that matches it.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[eval,dev,docs]'
	touch $@

demo: install
	$(BIN)/tokenrank sample --compare --out $(OUT)

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto

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
	rm -rf $(VENV) $(OUT) build *.egg-info
