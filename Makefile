# Each target installs what it needs first; that takes no time when everything is there already.

CARGO ?= cargo

# The demo and the tests talk only to this machine, so a proxy from the environment must not be used for it.
comma := ,
spared := $(or $(NO_PROXY),$(no_proxy))
export NO_PROXY := $(if $(spared),$(spared)$(comma))localhost,127.0.0.1
export no_proxy := $(NO_PROXY)

.DEFAULT_GOAL := help
.PHONY: help demo test build release dist deb install test-packages lint docs openapi clients api-test bench fuzz corpus quality hostile chaos recover ffmpeg test-ffmpeg screenshot setup

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## run a gateway and the emulated providers, and send a voice note through each (ARGS=--once exits then)
	$(CARGO) run -- demo $(ARGS)

test: ## run all tests, with a temporary PostgreSQL server (ARGS go to cargo nextest run)
	@scripts/setup.sh --test
	$(CARGO) test --workspace --doc --quiet
	scripts/with-postgres.sh $(CARGO) nextest run --workspace $(ARGS)

build: setup ## build target/debug/voicegate, for development
	$(CARGO) build

release: setup ## build target/release/voicegate, the one to install
	$(CARGO) build --release --package voicegate

dist: ## build target/dist/voicegate-VERSION-SYSTEM.tar.gz, with the small ffmpeg, licences and a checksum
	scripts/package.sh dist

deb: ## build target/dist/voicegate_VERSION_ARCHITECTURE.deb, on Debian and Ubuntu
	scripts/package.sh deb

install: ## install what `make dist` contains below PREFIX=/usr/local (DESTDIR= is put before it)
	PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/package.sh install

test-packages: ## install the package in a bare Debian, and start the files of the image as an ordinary user (needs root)
	scripts/test-packages.sh

lint: ## check formatting, run clippy, build the crate documentation; warnings are errors
	@scripts/setup.sh --lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --workspace --no-deps --document-private-items

docs: setup ## regenerate the parts of docs/ that come from the code
	$(CARGO) run --quiet --package xtask

openapi: setup ## regenerate docs/openapi.json
	$(CARGO) run --quiet -- openapi > docs/openapi.json.new
	mv docs/openapi.json.new docs/openapi.json

clients: ## regenerate the parts of clients/ that come from docs/openapi.json
	@scripts/setup.sh --test
	scripts/clients.sh

api-test: ## test a running gateway against docs/openapi.json with schemathesis (ARGS go to schemathesis run)
	@scripts/setup.sh --api
	$(CARGO) build
	target/tools/api/bin/python tests/api/run.py $(or $(CARGO_TARGET_DIR),target)/debug/voicegate $(ARGS)

bench: setup ## run the benchmarks on a release build (ARGS=--help lists them)
	$(CARGO) build --release --package voicegate --package voicegate-bench
	$(or $(CARGO_TARGET_DIR),target)/release/voicegate-bench $(ARGS)

fuzz: ## run every fuzz target for TIME=60 seconds (TARGETS=... selects some)
	@scripts/setup.sh
	scripts/fuzz.sh $(or $(TIME),60) $(TARGETS)

corpus: ## convert sources of every kind to every profile, in all pairs of properties: CORPUS=all CORPUS_ONLY=tone,offset
	@scripts/setup.sh --test
	CORPUS=$(or $(CORPUS),all) $(CARGO) nextest run --profile long --test audio --no-capture -E 'test(/^corpus::/)' $(ARGS)

quality: ## measure encoded speech with PESQ and STOI
	@scripts/setup.sh --test --quality
	QUALITY=must $(CARGO) nextest run --test audio --no-capture -E 'test(/^quality::/)' $(ARGS)

hostile: ## send malformed and hostile files, eight at a time: REQUESTS=10000 SEED=1
	@scripts/setup.sh --test
	HOSTILE_REQUESTS=$(or $(REQUESTS),10000) SEED=$(or $(SEED),1) \
		$(CARGO) nextest run --profile long --test e2e --no-capture -E 'test(/^hostile::every_/)' $(ARGS)

chaos: ## send notes under random faults and kill -9: NOTES=10000 KILLS=20 RESTARTS=10 SEED=1
	@scripts/setup.sh --test
	CHAOS_NOTES=$(or $(NOTES),10000) CHAOS_KILLS=$(or $(KILLS),20) CHAOS_RESTARTS=$(or $(RESTARTS),10) \
		CHAOS_SEED=$(or $(SEED),1) \
		scripts/with-postgres.sh $(CARGO) nextest run --test process --no-capture -E 'test(/^chaos::/)' $(ARGS)

recover: ## fail notes, and recover them while the process is killed three times: NOTES=10000
	@scripts/setup.sh --test
	RECOVER_NOTES=$(or $(NOTES),10000) \
		scripts/with-postgres.sh $(CARGO) nextest run --test process --no-capture -E 'test(/^recover::each_/)' $(ARGS)

ffmpeg: ## build a small, fast ffmpeg, which voicegate then uses (CPU=any for machines without AVX2)
	@CPU="$(CPU)" scripts/ffmpeg.sh

test-ffmpeg: ffmpeg ## run the audio tests with that ffmpeg (ARGS go to cargo nextest run)
	@scripts/setup.sh --test
	VOICEGATE_TEST_FFMPEG="$(abspath $(or $(CARGO_TARGET_DIR),target))/tools/ffmpeg/ffmpeg" \
		$(CARGO) nextest run --test audio $(ARGS)

screenshot: setup ## take the pictures in README.md, docs/images/*.png, from running demos
	$(CARGO) build
	scripts/screenshot.sh

setup: ## install what building and running needs: a C compiler, CA certificates, ffmpeg
	@scripts/setup.sh
