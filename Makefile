# Every target does its own set-up: what is installed already costs nothing.

CARGO ?= cargo

# Demo and tests talk to this machine only. A proxy that the environment names must not get in between.
comma := ,
spared := $(or $(NO_PROXY),$(no_proxy))
export NO_PROXY := $(if $(spared),$(spared)$(comma))localhost,127.0.0.1
export no_proxy := $(NO_PROXY)

.DEFAULT_GOAL := help
.PHONY: help demo test build release lint docs openapi api-test bench fuzz corpus quality hostile chaos ffmpeg test-ffmpeg setup

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## run gateway and sandbox, send a voice note through each provider, stay (ARGS=--once to exit)
	$(CARGO) run -- demo $(ARGS)

test: ## run the whole suite, with a PostgreSQL of its own (ARGS are for cargo nextest run)
	@scripts/setup.sh --test
	$(CARGO) test --workspace --doc --quiet
	scripts/with-postgres.sh $(CARGO) nextest run --workspace $(ARGS)

build: setup ## build target/debug/voicegate
	$(CARGO) build

release: setup ## build target/release/voicegate, for machines that send real notes
	$(CARGO) build --release --package voicegate

lint: ## check formatting, clippy and the documentation; warnings are errors
	@scripts/setup.sh --lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --workspace --no-deps --document-private-items

docs: setup ## print the parts of docs/ anew that come from the code
	UPDATE_DOCS=1 $(CARGO) test --package voicegate --lib --quiet docs::tests::the_printed_parts_are_fresh

openapi: setup ## print docs/openapi.json anew
	$(CARGO) run --quiet -- openapi > docs/openapi.json.new
	mv docs/openapi.json.new docs/openapi.json

api-test: ## hold a running gateway against docs/openapi.json with schemathesis (ARGS are for schemathesis run)
	@scripts/setup.sh --api
	$(CARGO) build
	target/tools/api/bin/python tests/api/run.py $(or $(CARGO_TARGET_DIR),target)/debug/voicegate $(ARGS)

bench: setup ## measure a release build (ARGS=--help lists the parts)
	$(CARGO) build --release --package voicegate --package voicegate-bench
	$(or $(CARGO_TARGET_DIR),target)/release/voicegate-bench $(ARGS)

fuzz: ## run every fuzz target for TIME=60 seconds (TARGETS=... for some)
	@scripts/setup.sh
	scripts/fuzz.sh $(or $(TIME),60) $(TARGETS)

corpus: ## hold every kind of source against every profile, in all combinations of two values: CORPUS=all
	@scripts/setup.sh --test
	CORPUS=$(or $(CORPUS),all) $(CARGO) nextest run --profile long --test audio --no-capture -E 'test(/^corpus::/)' $(ARGS)

quality: ## hold encoded speech against PESQ and STOI
	@scripts/setup.sh --test --quality
	QUALITY=must $(CARGO) nextest run --test audio --no-capture -E 'test(/^quality::/)' $(ARGS)

hostile: ## send files that are not what they seem, eight at a time: REQUESTS=10000 SEED=1
	@scripts/setup.sh --test
	HOSTILE_REQUESTS=$(or $(REQUESTS),10000) SEED=$(or $(SEED),1) \
		$(CARGO) nextest run --profile long --test e2e --no-capture -E 'test(/^hostile::every_/)' $(ARGS)

chaos: ## random faults and kill -9 for long: NOTES=10000 KILLS=20 RESTARTS=10 SEED=1
	@scripts/setup.sh --test
	CHAOS_NOTES=$(or $(NOTES),10000) CHAOS_KILLS=$(or $(KILLS),20) CHAOS_RESTARTS=$(or $(RESTARTS),10) \
		CHAOS_SEED=$(or $(SEED),1) \
		scripts/with-postgres.sh $(CARGO) nextest run --test process --no-capture -E 'test(/^chaos::/)' $(ARGS)

ffmpeg: ## build a small ffmpeg that costs less than half; it is used from then on (CPU=any for machines without AVX2)
	@CPU="$(CPU)" scripts/ffmpeg.sh

test-ffmpeg: ffmpeg ## run the audio tests with that ffmpeg (ARGS are for cargo nextest run)
	@scripts/setup.sh --test
	VOICEGATE_TEST_FFMPEG="$(abspath $(or $(CARGO_TARGET_DIR),target))/tools/ffmpeg/ffmpeg" \
		$(CARGO) nextest run --test audio $(ARGS)

setup: ## install what is missing: a C compiler, ffmpeg
	@scripts/setup.sh
