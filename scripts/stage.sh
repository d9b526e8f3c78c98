#!/bin/sh
# Lays out an installation: everything that a package, an image or `make install` puts on a machine.
#
#   scripts/stage.sh FOLDER PREFIX
#
# FOLDER is where the tree is built, such as target/stage or / itself. PREFIX is where the files are found when they are
# used, such as /usr. The release build and the small ffmpeg must exist already (make dist and the like see to that); on
# systems where that ffmpeg cannot be built, it is left out, and voicegate uses the one on the PATH.
set -eu
cd "$(dirname "$0")/.."

folder=$1
prefix=$2
target=${CARGO_TARGET_DIR:-target}
program=$target/release/voicegate
ffmpeg=$target/tools/ffmpeg/ffmpeg
root=$folder$prefix

put() { # put MODE FILE DESTINATION
    mkdir -p "$(dirname "$3")"
    install -m "$1" "$2" "$3"
}

# ffmpeg lies beside the executable, where voicegate looks first, but not on the PATH, where it would replace the system's.
put 755 "$program" "$root/lib/voicegate/voicegate"
if [ -x "$ffmpeg" ]; then put 755 "$ffmpeg" "$root/lib/voicegate/ffmpeg"; fi
mkdir -p "$root/bin"
ln -sf ../lib/voicegate/voicegate "$root/bin/voicegate"

share=$root/share
completions=$(mktemp)
trap 'rm -f "$completions"' EXIT
complete() { # complete SHELL DESTINATION
    "$program" completions "$1" >"$completions"
    put 644 "$completions" "$2"
}
complete bash "$share/bash-completion/completions/voicegate"
complete zsh "$share/zsh/vendor-completions/_voicegate"
complete fish "$share/fish/vendor_completions.d/voicegate.fish"

for page in "$target"/man/*.1; do
    put 644 "$page" "$share/man/man1/$(basename "$page")"
done
gzip -9nf "$share"/man/man1/voicegate*.1

doc=$share/doc/voicegate
for file in README.md CHANGELOG.md SECURITY.md LICENSE-MIT LICENSE-APACHE config.toml; do
    put 644 "$file" "$doc/$file"
done
put 644 ops/prometheus/alerts.yml "$doc/prometheus/alerts.yml"
put 644 ops/grafana/voicegate.json "$doc/grafana/voicegate.json"
put 644 ops/systemd/voicegate.service "$doc/systemd/voicegate.service"
put 644 "$target/licences.txt" "$doc/licences.txt"
if [ -x "$ffmpeg" ]; then put 644 "$(dirname "$ffmpeg")/licences.txt" "$doc/licences-ffmpeg.txt"; fi
