#!/bin/sh
# Takes the picture of the sandbox's inbox that README.md shows: runs the demo, waits until both notes are delivered, and
# lets a headless Chromium draw the page.
#
#   scripts/screenshot.sh [EXECUTABLE] [PNG]    default: target/debug/voicegate docs/images/inbox.png
#
# CHROMIUM names another browser of that family. The picture may have 200 KB at most; a larger one is an error.
set -eu
cd "$(dirname "$0")/.."

executable=${1:-${CARGO_TARGET_DIR:-target}/debug/voicegate}
picture=${2:-docs/images/inbox.png}
limit=200000

say() { echo "screenshot: $*" >&2; }

scripts/setup.sh --screenshot
browser=${CHROMIUM:-}
for name in chromium chromium-browser google-chrome /Applications/Chromium.app/Contents/MacOS/Chromium; do
    [ -n "$browser" ] || ! command -v "$name" >/dev/null 2>&1 || browser=$name
done
if [ -z "$browser" ]; then
    say "there is no Chromium; name one in CHROMIUM"
    exit 1
fi

work=$(mktemp -d)
demo=
finish() {
    [ -z "$demo" ] || kill "$demo" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

# Any free ports will do: the picture shows neither.
"$executable" demo --listen 127.0.0.1:0 --sandbox 127.0.0.1:0 >"$work/demo.log" 2>&1 &
demo=$!

# until_true SECONDS COMMAND...: asks ten times a second.
until_true() {
    tries=$(($1 * 10))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] && kill -0 "$demo" 2>/dev/null || return 1
        sleep 0.1
    done
}
inbox() { sed -n 's/^see and hear the notes: *//p' "$work/demo.log" | grep .; }
both_delivered() {
    [ "$(curl -s --noproxy '*' "$1sandbox/ledger" | grep -o '"status":"delivered"' | wc -l)" -ge 2 ]
}

if ! until_true 60 inbox >/dev/null || ! address=$(inbox) || ! until_true 10 both_delivered "$address"; then
    cat "$work/demo.log" >&2
    say "the demo did not deliver both notes"
    exit 1
fi

if ! node scripts/screenshot.mjs "$browser" "$work/profile" "$address" "$work/inbox.png" 2>"$work/browser.log" ||
    [ ! -s "$work/inbox.png" ]; then
    tail -n 20 "$work/browser.log" >&2
    say "$browser took no picture"
    exit 1
fi
size=$(wc -c <"$work/inbox.png")
if [ "$size" -gt "$limit" ]; then
    say "the picture has $size bytes, which is more than $limit"
    exit 1
fi
mkdir -p "$(dirname "$picture")"
mv "$work/inbox.png" "$picture"
say "$picture, $size bytes"
