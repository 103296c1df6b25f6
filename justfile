# Everything a contributor runs. `just` lists the recipes.

_list:
    @just --list

# All gates, side by side, with the tests that start no processes: under three minutes on two cores
[parallel]
check: lint mypy pyright contracts quick

# Everything that CI runs
all: check test docs

# Format the code and apply the safe fixes
fmt:
    ruff check --fix src tests bench examples
    ruff format src tests bench examples

# Style and layout, no changes made
lint:
    ruff check src tests bench examples
    ruff format --check src tests bench examples

# Both type checkers, strict
types: mypy pyright

mypy:
    mypy

pyright:
    pyright

# The architecture: who may import whom
contracts:
    lint-imports

# The whole test suite; three processes on two cores, since its tests wait half of their time
test *ARGS:
    pytest -n 3 {{ARGS}}

# The quick tests: no processes, no services
quick:
    pytest -n 2 -m "not slow"

# Ten thousand histories for each law of the feature engine, most over real stores; takes four hours or more
long:
    HYPOTHESIS_PROFILE=long pytest -n 2 --timeout 43200 tests/unit/algebra/test_engine.py tests/unit/algebra/test_leaving.py tests/unit/features/test_deletes.py tests/unit/features/test_lookups.py tests/unit/features/test_repeats.py tests/unit/features/test_sweeping.py -k "naive or stored_features"

# Ask the processes whatever their OpenAPI documents allow and forbid, and hand any bytes to what
# decodes them, bred by what they reach; it installs atheris, and takes an hour and a half
fuzz:
    uv pip install 'atheris>=3'
    PENSTOCK_FUZZ_EXAMPLES=1000 pytest tests/flows/test_described_doors.py
    HYPOTHESIS_PROFILE=long pytest -n 2 --timeout 7200 tests/unit/http -k "fuzz or wire"
    python tests/fuzz/reach.py --seconds 120

# The conformance suites of one kind of adapter, such as `just ports lmdb`
ports WORD:
    pytest tests/ports -k {{WORD}}

# The whole life of a model, with real processes
flows:
    pytest tests/flows tests/chaos

# Measure: `just bench` lists, `just bench online --quick` runs
bench *ARGS:
    python -m bench {{ARGS}}

# Build the documentation, strictly
docs:
    mkdocs build --strict

# Refuse a lock file that does not fit pyproject.toml
lock:
    uv lock --check
