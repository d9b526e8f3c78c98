#!/bin/sh
# Takes the pictures of the sandbox's page that README.md shows, from running demos, drawn by a headless Chromium:
#
#   inbox.png         the sample of the demo, delivered through both providers
#   conversation.png  voice notes of a person, answered by examples/echo_bot.py
#
#   scripts/screenshot.sh [EXECUTABLE] [FOLDER]    default: target/debug/voicegate docs/images
#
# CHROMIUM names another browser of that family. A picture may have 200 KB at most; a larger one is an error.
set -eu
cd "$(dirname "$0")/.."

executable=${1:-${CARGO_TARGET_DIR:-target}/debug/voicegate}
folder=${2:-docs/images}
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
demo= bot=
stop() {
    [ -z "$bot" ] || kill "$bot" 2>/dev/null || true
    [ -z "$demo" ] || kill "$demo" 2>/dev/null || true
    demo= bot=
}
finish() {
    stop
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

fail() {
    cat "$work/demo.log" "$work/bot.log" >&2 2>/dev/null || true
    say "$*"
    exit 1
}

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
exported() { sed -n "s/^ *export $1=//p" "$work/demo.log"; }
listens() { grep -qs '^listening' "$work/bot.log"; }

# begin PROVIDERS: starts a demo and finds its page. Any free ports will do: the pictures show neither.
begin() {
    : >"$work/demo.log"
    "$executable" demo --providers "$1" --listen 127.0.0.1:0 --sandbox 127.0.0.1:0 >"$work/demo.log" 2>&1 &
    demo=$!
    until_true 60 inbox >/dev/null || fail "the demo does not start"
    address=$(inbox)
}

# shown TEXT NUMBER: whether the ledger has this text so many times.
shown() {
    [ "$(curl -s --noproxy '*' "${address}sandbox/ledger" | grep -o "$1" | wc -l)" -ge "$2" ]
}

# picture NAME HEIGHT NOTES: waveforms are drawn as they come into view, so all of the notes have to be in it.
picture() {
    if ! node scripts/screenshot.mjs "$browser" "$work/profile" "$address" "$work/$1" "$2" "$3" 2>"$work/browser.log" ||
        [ ! -s "$work/$1" ]; then
        tail -n 20 "$work/browser.log" >&2
        fail "$browser took no picture of $1"
    fi
    size=$(wc -c <"$work/$1")
    [ "$size" -le "$limit" ] || fail "$1 has $size bytes, which is more than $limit"
    mkdir -p "$folder"
    mv "$work/$1" "$folder/$1"
    say "$folder/$1, $size bytes"
}

begin linq,wawp
until_true 10 shown '"status":"delivered"' 2 || fail "the demo did not deliver both notes"
picture inbox.png 405 2
stop

# Nothing but the conversation stands in the second picture, so the samples of the demo are cleared first.
begin waha,telegram
until_true 10 shown '"form":"voice"' 2 || fail "the demo did not send both notes"
VOICEGATE_URL=$(exported VOICEGATE_URL) VOICEGATE_API_KEY=$(exported VOICEGATE_API_KEY) NO_PROXY='*' \
    python3 examples/echo_bot.py >"$work/bot.log" 2>&1 &
bot=$!
until_true 20 listens || fail "the bot does not listen"
curl -s --noproxy '*' -X POST "${address}sandbox/clear"

# send_in PROVIDER PERSON NAME RECORDING ANSWERS: as the microphone of a phone does, and waits for the bot.
send_in() {
    printf '{"provider": "%s", "from": "%s", "sender_name": "%s", "audio": "%s"}' \
        "$1" "$2" "$3" "$(base64 <"$4" | tr -d '\n')" |
        curl -s --noproxy '*' --fail -o /dev/null --data-binary @- "${address}sandbox/inbound" ||
        fail "$1 does not take a note"
    until_true 30 shown '"form":"voice"' "$5" || fail "the bot did not answer through $1"
}
send_in waha +15551234567 Ann tests/fixtures/audio/recorder-wideband.ogg 1
send_in telegram telegram:700000001 Ben tests/fixtures/audio/speech-live.webm 2
picture conversation.png 620 4
