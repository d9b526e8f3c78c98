#!/bin/sh
# Installs what is missing on this machine. If nothing is missing, it prints nothing and ends at once.
#
#   scripts/setup.sh           what building and running voicegate needs: a C compiler, CA certificates, ffmpeg
#   scripts/setup.sh --test    also what the tests need: opusinfo, kill, PostgreSQL, cargo-nextest, and Chromium for the
#                              pages; for the examples in the documentation and for the clients curl, Python and Node,
#                              with their packages in target/tools
#   scripts/setup.sh --quality also what `make quality` needs: Python and a speech synthesiser, with PESQ, STOI and speech
#                              recordings in target/tools
#   scripts/setup.sh --api     also what `make api-test` needs: Python, with schemathesis in target/tools
#   scripts/setup.sh --lint    also what `make lint` needs: rustfmt and clippy
#   scripts/setup.sh --ffmpeg  also what `make ffmpeg` needs, on Debian and Ubuntu: nasm, dpkg-dev, pkg-config, make
#                              and libmp3lame
#   scripts/setup.sh --screenshot  also what `make screenshot` needs: Chromium with a font, Node, Python and curl
set -eu

cd "$(dirname "$0")/.."

for_tests= for_api= for_quality= for_lint= for_ffmpeg= for_screenshot=
for argument; do
    case $argument in
        --test) for_tests=1 ;;
        --api) for_api=1 ;;
        --quality) for_quality=1 ;;
        --lint) for_lint=1 ;;
        --ffmpeg) for_ffmpeg=1 ;;
        --screenshot) for_screenshot=1 ;;
        *)
            echo "usage: scripts/setup.sh [--test] [--quality] [--api] [--lint] [--ffmpeg] [--screenshot]" >&2
            exit 2
            ;;
    esac
done

say() { echo "setup: $*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

# Tests the compiler together with the headers of the C library.
has_compiler() { has cc && echo '#include <stdio.h>' | cc -fsyntax-only -x c - >/dev/null 2>&1; }

# macOS keeps certificates in the keychain. Elsewhere one of the usual files must exist, or the caller names one.
has_certificates() {
    [ "$(uname -s)" = Darwin ] || [ -n "${SSL_CERT_FILE:-}" ] || [ -n "${SSL_CERT_DIR:-}" ] ||
        [ -s /etc/ssl/certs/ca-certificates.crt ] || [ -s /etc/pki/tls/certs/ca-bundle.crt ] ||
        [ -s /etc/ssl/cert.pem ]
}

# Tests both the header and the library.
has_lame() { echo 'int main(void) { return 0; }' | cc -include lame/lame.h -x c - -lmp3lame -o /dev/null 2>/dev/null; }

# The tests need the program; the `kill` built into the shell does not help them.
has_kill() { [ -x /bin/kill ] || [ -x /usr/bin/kill ]; }

# Neither Debian nor Homebrew puts the server on the PATH. If the tests use an existing server, none is needed here.
has_postgres() {
    [ -n "${VOICEGATE_TEST_POSTGRES:-}" ] || has initdb ||
        ls /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb /opt/homebrew/opt/postgresql@*/bin/initdb \
            /usr/local/opt/postgresql@*/bin/initdb 2>/dev/null | grep -q .
}

# Debian packages the support for virtual environments separately.
has_python() { has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }

# PESQ is written in C and compiled for the installed Python.
has_python_headers() {
    has python3 && python3 -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
}

# A browser that scripts/screenshot.sh knows.
has_browser() {
    [ -n "${CHROMIUM:-}" ] || has chromium || has chromium-browser || has google-chrome ||
        [ -x /Applications/Chromium.app/Contents/MacOS/Chromium ]
}

# One of the speech synthesisers that scripts/speech.sh uses.
has_voice() { has espeak-ng || has say || ffmpeg -hide_banner -filters 2>/dev/null | grep -q ' flite '; }

apt= brew= what=
# missing WHAT-IT-IS APT-PACKAGES BREW-PACKAGES
missing() {
    what="$what${what:+, }$1"
    apt="$apt $2"
    brew="$brew $3"
}

by_hand() {
    say "$1"
    say "install by hand, then run make again: $what"
    [ "$(uname -s)" != Linux ] || say "Debian and Ubuntu, as root: apt-get update && apt-get install$apt"
    exit 1
}

install_with_apt() {
    sudo=
    if [ "$(id -u)" -ne 0 ]; then
        has sudo || by_hand "installing needs root, and there is no sudo here."
        sudo=sudo
    fi
    say "missing: $what"
    say "installing with ${sudo:+sudo }apt-get:$apt"
    get() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null; }
    # The package index is downloaded only if it is missing or too old for this installation.
    # shellcheck disable=SC2086 # a list of packages
    if ! get --dry-run install --no-install-recommends $apt >/dev/null 2>&1 ||
        ! get -y install --no-install-recommends $apt; then
        say "fetching the list of packages first"
        get update
        get -y install --no-install-recommends $apt
    fi
}

install_with_brew() {
    say "missing: $what"
    say "installing with brew:$brew"
    # shellcheck disable=SC2086 # a list of packages
    HOMEBREW_NO_AUTO_UPDATE="${HOMEBREW_NO_AUTO_UPDATE-1}" brew install --quiet $brew </dev/null
}

if ! has cargo; then
    say "Rust is missing. See https://rustup.rs, then open a new shell and run make again."
    exit 1
fi

if ! has_compiler; then
    if [ "$(uname -s)" = Darwin ]; then
        say "a C compiler is missing. Run: xcode-select --install, then run make again."
        exit 1
    fi
    missing "a C compiler" "gcc libc6-dev" ""
fi
has_certificates || missing "CA certificates" "ca-certificates" ""
has ffmpeg || missing "ffmpeg" "ffmpeg" "ffmpeg"
if [ -n "$for_tests" ]; then
    # ffprobe comes with ffmpeg, unless somebody put only the ffmpeg binary on the PATH.
    has ffprobe || ! has ffmpeg || missing "ffprobe" "ffmpeg" "ffmpeg"
    has opusinfo || missing "opusinfo" "opus-tools" "opus-tools"
    has_kill || missing "kill" "procps" ""
    has_postgres || missing "PostgreSQL" "postgresql" "postgresql@17"
    has curl || missing "curl" "curl" "curl"
    { has node && has npm; } || missing "Node" "nodejs npm" "node"
fi
if [ -n "$for_quality" ]; then
    has_python_headers || missing "the headers of Python" "python3-dev" "python"
    # If ffmpeg is missing, the one that apt-get installs includes a synthesiser.
    has_voice || ! has ffmpeg || missing "a speech synthesiser" "espeak-ng" "espeak-ng"
fi
if [ -n "$for_tests$for_api$for_quality" ]; then
    has_python || missing "Python" "python3 python3-venv" "python"
fi
if [ -n "$for_ffmpeg" ]; then
    has make || missing "make" "make" ""
    has dpkg-source || missing "dpkg-source" "dpkg-dev" ""
    has pkg-config || missing "pkg-config" "pkg-config" ""
    has nasm || [ "$(uname -m)" != x86_64 ] || missing "nasm" "nasm" ""
    has_lame || missing "libmp3lame" "libmp3lame-dev" ""
fi
if [ -n "$for_screenshot" ]; then
    has_browser || missing "Chromium" "chromium fonts-dejavu-core" "chromium"
    has curl || missing "curl" "curl" "curl"
    has node || missing "Node" "nodejs" "node"
    has python3 || missing "Python" "python3" "python"
fi

install() {
    if has apt-get; then
        install_with_apt
    elif has brew; then
        install_with_brew
    else
        by_hand "there is neither apt-get nor brew here."
    fi
}
[ -z "$what" ] || install

# The other tests run without a browser, so it is not worth a failure. Not every system has a package of it.
if [ -n "$for_tests" ] && ! has_browser; then
    apt= brew= what=
    missing "Chromium" "chromium fonts-dejavu-core" "chromium"
    (install) || say "Chromium could not be installed, so the tests of the pages say that they were skipped"
fi

if [ -n "$for_tests" ] && ! cargo nextest --version >/dev/null 2>&1; then
    say "missing: cargo-nextest"
    say "building it with cargo install, once; this takes some minutes"
    cargo install cargo-nextest --locked
fi

# The Python and Node packages of the tests. Their versions are pinned, and they are installed again only if a pin changed.
tools=target/tools

# python_packages REQUIREMENTS VENV
python_packages() {
    ! cmp -s "$1" "$2/requirements.txt" || return 0
    say "installing into $2: the packages of $1"
    rm -rf "$2"
    python3 -m venv "$2"
    # Build dependencies are pinned as well; newer versions of pip read the second variable.
    PIP_CONSTRAINT="$PWD/$1" PIP_BUILD_CONSTRAINT="$PWD/$1" \
        "$2/bin/python" -m pip --quiet --disable-pip-version-check install -r "$1" </dev/null
    cp "$1" "$2/requirements.txt"
}

# node_packages FOLDER INTO
node_packages() {
    ! cmp -s "$1/package-lock.json" "$2/package-lock.json" || return 0
    say "installing into $2: the packages of $1/package-lock.json"
    rm -rf "$2/node_modules" "$2/package-lock.json" "$2/npm"
    mkdir -p "$2/npm"
    cp "$1/package.json" "$1/package-lock.json" "$2/npm/"
    # The nodes of n8n name n8n itself as a peer, which is not needed to read their descriptions.
    (cd "$2/npm" && npm ci --loglevel=error --ignore-scripts --legacy-peer-deps --no-audit --no-fund </dev/null)
    mv "$2/npm/node_modules" "$2/npm/package-lock.json" "$2/"
    rm -rf "$2/npm"
}

# The descriptions of n8n's own nodes: two files of a package whose dependencies are not needed.
n8n_nodes() {
    version=2.41.2 into=$tools/clients/n8n
    [ ! -e "$into/$version" ] || return 0
    say "installing into $into: the descriptions of n8n-nodes-base $version"
    rm -rf "$into"
    mkdir -p "$into"
    (cd "$into" && npm pack --silent --pack-destination . "n8n-nodes-base@$version" </dev/null >/dev/null)
    tar -xzf "$into/n8n-nodes-base-$version.tgz" -C "$into" --strip-components 3 \
        package/dist/types/nodes.json package/dist/types/credentials.json
    rm "$into/n8n-nodes-base-$version.tgz"
    : >"$into/$version"
}

[ -z "$for_api" ] || python_packages tests/api/requirements.txt "$tools/api"
if [ -n "$for_quality" ]; then
    python_packages audio/tests/audio/quality/requirements.txt "$tools/quality"
    scripts/speech.sh "$tools/speech"
fi
if [ -n "$for_tests" ]; then
    python_packages tests/docs/requirements.txt "$tools/venv"
    node_packages tests/docs "$tools"
    python_packages tests/clients/requirements.txt "$tools/clients/venv"
    node_packages tests/clients "$tools/clients"
    n8n_nodes
    # Clients of other gateways. The programs that use them lie beside them, because Node looks for packages there.
    python_packages tests/dialects/requirements.txt "$tools/dialects/venv"
    node_packages tests/dialects "$tools/dialects"
    cp tests/dialects/*.mjs tests/dialects/*.py "$tools/dialects/"
fi

if [ -n "$for_lint" ]; then
    for component in rustfmt clippy; do
        name=${component#rust}
        cargo "$name" --version >/dev/null 2>&1 && continue
        if ! has rustup; then
            say "cargo $name is missing; install it the way Rust was installed here, then run make again."
            exit 1
        fi
        say "adding to the Rust toolchain: $component"
        rustup component add "$component"
    done
fi
