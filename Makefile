# make train   a short training run          make test   everything that must hold before a change goes in
# make slow    the tests that take minutes   make docs   the site, into site/
# make clean   remove the environment and all caches
# make lists   write down anew what `tasks list` and `train --help` print, where families or settings have changed
# Python 3.11 or newer; another one than python3: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: train test slow docs lists clean

train: $(INSTALLED)
	$(BIN)/python train.py --expt=quick

# Tests run in parallel, so each process keeps to one thread.
test slow: export OMP_NUM_THREADS := 1

test: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -n auto

slow: $(INSTALLED)  # battles too
	$(BIN)/pip install --quiet -c constraints.txt -e '.[smax]'
	$(BIN)/pytest -n auto -m slow

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(INSTALLED)
	$(BIN)/mkdocs build --strict --quiet

lists: $(INSTALLED)
	$(BIN)/python -c 'from mg2l_kalei.commands import tasks, train_help; tasks.renew_list(); train_help.renew_settings()'

$(INSTALLED): setup.cfg setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist site .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
