# `make` without a target lists all targets.
#
# Each step is one script in scripts/, which CI and the Dockerfile run as well. A script installs only missing parts,
# and is fast if none is missing.

SHELL := bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# "dev" compiles in half the time of "release". It analyzes nearly as fast, because decoding and inference are compiled
# libraries. `make build`, `make bench` and the image use "release".
PROFILE ?= dev
VIDEO ?=

# rustup installs cargo here, and a new shell may not have it in PATH.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

visage := target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/visage

.PHONY: help
help: ## list all targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: demo
demo: ## analyze a clip through the service and show the result; VIDEO=FILE for your own clip
	@PROFILE=$(PROFILE) scripts/demo.sh $(if $(VIDEO),"$(VIDEO)")

.PHONY: serve
serve: compile models ## run the service on http://127.0.0.1:8000 (settings: config/*.toml, VISAGE_*)
	@exec $(visage) serve

.PHONY: test
test: setup ## install missing packages, check formatting and lints, run every test
	@scripts/install-test-deps.sh
	@$(MAKE) --no-print-directory lint fixtures PROFILE=dev
	@# Without backtraces, the output ends with the list of failed tests. Tests run with default settings, so the mirror is unset.
	env -u VISAGE_MODELS__MIRROR -u VISAGE_MODELS_MIRROR RUST_BACKTRACE=0 cargo test --locked
	env -u VISAGE_MODELS__MIRROR -u VISAGE_MODELS_MIRROR scripts/check-api.sh
	scripts/check-chart.sh

.PHONY: fixtures
fixtures: models ## fetch the clips and models of the tests
	@# Tests use both face detectors. Without names, `models pull` fetches the second only if the first is missing.
	@$(visage) models pull yunet blazeface
	@scripts/fetch-test-media.sh

.PHONY: bench
bench: setup ## measure analyses against ffmpeg's decoding and Python scripts, many at once, results a second
	@scripts/install-bench-deps.sh
	@$(MAKE) --no-print-directory compile models PROFILE=release
	@benches/python.sh
	@benches/run.py
	@benches/service.py

# `make corpus DIR=FOLDER`; OPTIONS are those of benches/corpus.py.
.PHONY: corpus
corpus: compile models ## compare the results for every file of a folder with FFmpeg's: DIR=FOLDER
	@test -n "$(DIR)" || { echo "usage: make corpus DIR=FOLDER [OPTIONS=...]" >&2; exit 2; }
	cargo build --locked --example samples --profile $(PROFILE)
	@VISAGE=$(visage) SAMPLES=$(dir $(visage))examples/samples benches/corpus.py "$(DIR)" $(OPTIONS)

TARGET ?=
SECONDS ?= 60

.PHONY: fuzz
fuzz: setup ## search for inputs that make a parser fail: TARGET=NAME for one target, SECONDS=N for each
	@scripts/fuzz.sh $(SECONDS) $(TARGET)

.PHONY: sanitize
sanitize: fixtures ## run unit tests under AddressSanitizer
	@scripts/sanitize.sh

.PHONY: lint
lint: setup ## check formatting, licences of crates and hardening, run clippy and shellcheck
	@if command -v shellcheck >/dev/null; then shellcheck -x scripts/*.sh deploy/*.sh .ci/run && shellcheck -S warning benches/*.sh; fi
	@scripts/settings-table.sh --check
	@scripts/check-hardening.sh
	@scripts/check-crates.sh
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --lib --bench engine -- -D warnings

.PHONY: build
build: ## compile target/release/visage
	@$(MAKE) --no-print-directory compile PROFILE=release

.PHONY: setup
setup: ## install the parts for building and running: packages, Rust, ONNX Runtime
	@scripts/install-build-deps.sh
	@scripts/install-rust.sh
	@scripts/fetch-onnxruntime.sh

.PHONY: doctor
doctor: compile ## check all parts, and give a remedy for each missing one
	@$(visage) doctor

.PHONY: clean
clean: ## remove built and fetched files (not data/)
	rm -rf target .runtime
	find models \( -name '*.onnx' -o -name '*.task' \) ! -name emotion.onnx -delete

.PHONY: compile
compile: setup
	cargo build --locked --bin visage --profile $(PROFILE)

.PHONY: models
models: compile
	@$(visage) models pull
