# The front door. `make` alone tells what there is.
#
# Each step is one script in scripts/, which the CI and the Dockerfile run as well; every script installs only what is
# missing and is quick when nothing is.

SHELL := bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# "dev" compiles in half the time of "release", and decoding and inference, where the time goes, are libraries that
# come compiled. `make build`, `make bench` and the image use "release".
PROFILE ?= dev
VIDEO ?=

# rustup puts cargo here; a fresh shell need not know yet.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

visage := target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/visage

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: demo
demo: ## analyze a clip through the service and show the result; VIDEO=FILE for one of your own
	@PROFILE=$(PROFILE) scripts/demo.sh $(if $(VIDEO),"$(VIDEO)")

.PHONY: serve
serve: compile models ## run the service on http://127.0.0.1:8000 (settings: config/*.toml, VISAGE_*)
	@exec $(visage) serve

.PHONY: test
test: setup ## install what is missing, check formatting and lints, run every test
	@scripts/install-test-deps.sh
	@$(MAKE) --no-print-directory lint fixtures PROFILE=dev
	@# Without backtraces, the list of failed tests stands at the end. A mirror is for fetching models: tests see the defaults.
	env -u VISAGE_MODELS__MIRROR -u VISAGE_MODELS_MIRROR RUST_BACKTRACE=0 cargo test --locked
	env -u VISAGE_MODELS__MIRROR -u VISAGE_MODELS_MIRROR scripts/check-api.sh

.PHONY: fixtures
fixtures: models ## fetch the clips and models that tests read
	@# Tests look at both detectors; `models pull` alone takes the second only in place of the first.
	@$(visage) models pull yunet blazeface
	@scripts/fetch-test-media.sh

.PHONY: bench
bench: setup ## measure: whole analyses against ffmpeg's decoding and scripts in Python, many at once, results a second
	@scripts/install-bench-deps.sh
	@$(MAKE) --no-print-directory compile models PROFILE=release
	@benches/python.sh
	@benches/run.py
	@benches/service.py

# `make corpus DIR=FOLDER`; OPTIONS are those of benches/corpus.py.
.PHONY: corpus
corpus: compile models ## hold the result for every file of a folder against FFmpeg's: DIR=FOLDER
	@test -n "$(DIR)" || { echo "usage: make corpus DIR=FOLDER [OPTIONS=...]" >&2; exit 2; }
	cargo build --locked --example samples --profile $(PROFILE)
	@VISAGE=$(visage) SAMPLES=$(dir $(visage))examples/samples benches/corpus.py "$(DIR)" $(OPTIONS)

TARGET ?=
SECONDS ?= 60

.PHONY: fuzz
fuzz: setup ## look for inputs that make a parser fail: TARGET=NAME for one of them, SECONDS=N for each
	@scripts/fuzz.sh $(SECONDS) $(TARGET)

.PHONY: lint
lint: setup ## formatting, clippy and shellcheck, all without a warning
	@if command -v shellcheck >/dev/null; then shellcheck -x scripts/*.sh deploy/*.sh .ci/run && shellcheck -S warning benches/*.sh; fi
	@scripts/settings-table.sh --check
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --lib --bench engine -- -D warnings

.PHONY: build
build: ## compile target/release/visage
	@$(MAKE) --no-print-directory compile PROFILE=release

.PHONY: setup
setup: ## install what building and running needs: packages, Rust, ONNX Runtime
	@scripts/install-build-deps.sh
	@scripts/install-rust.sh
	@scripts/fetch-onnxruntime.sh

.PHONY: doctor
doctor: compile ## say what is there and what is missing, each with the cure
	@$(visage) doctor

.PHONY: clean
clean: ## remove what was built and fetched (not data/)
	rm -rf target .runtime
	find models \( -name '*.onnx' -o -name '*.task' \) ! -name emotion.onnx -delete

.PHONY: compile
compile: setup
	cargo build --locked --bin visage --profile $(PROFILE)

.PHONY: models
models: compile
	@$(visage) models pull
