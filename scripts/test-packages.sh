#!/bin/sh
# Tests what people install, on a bare Debian 12 in a temporary folder. Needs root and the Debian archive.
#
#   1. The .deb: apt installs it; with a token in place the gateway starts as its user and accepts a note, whose audio and
#      row survive an upgrade; a purge removes everything and says so.
#   2. The image: its files are laid out as Containerfile does it, and an ordinary user starts the gateway in them, with
#      nothing writable but its volume and /tmp.
set -eu
cd "$(dirname "$0")/.."

say() { echo "test-packages: $*" >&2; }
fail() { say "$*"; exit 1; }

[ "$(id -u)" -eq 0 ] || fail "this needs root, for chroot"
command -v debootstrap >/dev/null 2>&1 || { say "installing debootstrap"; apt-get install -y -qq debootstrap >/dev/null; }

work=$(mktemp -d)
clean_up() {
    trap - EXIT
    pkill -KILL -f "voicegate serve --config /etc/voicegate/config.toml" 2>/dev/null || true
    for mounted in "$work"/*/proc "$work"/image/usr "$work"/image/etc "$work"/image; do
        umount "$mounted" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

target=${CARGO_TARGET_DIR:-target}
mirror=$(sed -nE 's/^(deb (\[[^]]*\] )?|URIs: )(https?:[^ ]+).*/\3/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
    head -1)

say "making a bare Debian 12"
debootstrap --variant=minbase bookworm "$work/base" "${mirror:-http://deb.debian.org/debian}" >"$work/log" 2>&1 ||
    { tail -5 "$work/log"; fail "debootstrap failed"; }
cp /etc/resolv.conf "$work/base/etc/resolv.conf"
[ ! -d /etc/apt/apt.conf.d ] || cp /etc/apt/apt.conf.d/* "$work/base/etc/apt/apt.conf.d/" 2>/dev/null || true

# starts ROOT COMMAND...: runs a gateway within ROOT and waits until it is ready.
starts() {
    root=$1
    shift
    chroot "$root" "$@" >"$work/gateway.log" 2>&1 &
    gateway=$!
    for _ in $(seq 120); do
        chroot "$root" voicegate check --config /etc/voicegate/config.toml --health >"$work/health" 2>&1 && return 0
        kill -0 "$gateway" 2>/dev/null || break
        sleep 0.5
    done
    cat "$work/gateway.log" "$work/health" >&2
    fail "the gateway did not become ready"
}

# stops: ends the gateway in order.
stops() {
    pkill -TERM -f "voicegate serve --config /etc/voicegate/config.toml" || true
    wait "$gateway" || fail "the gateway did not stop in order"
}

# --- The package -------------------------------------------------------------------------------------------------------

say "building the package"
scripts/package.sh deb
deb=$(ls "$target"/dist/voicegate_*.deb | tail -1)
cp -a "$work/base" "$work/deb"
cp "$deb" "$work/deb/srv/voicegate.deb"
mount -t proc proc "$work/deb/proc"
began=$(date +%s)
chroot "$work/deb" apt-get update -qq
chroot "$work/deb" apt-get install -y -qq /srv/voicegate.deb >"$work/log" 2>&1 || { tail "$work/log"; fail "apt failed"; }
grep -q "api-key" "$work/log" || fail "the installation does not say what to do next"
[ "$(stat -c %a "$work/deb/etc/voicegate/api-key")" = 640 ] || fail "others can read the API key"

! chroot "$work/deb" voicegate check --config /etc/voicegate/config.toml >"$work/check" 2>&1 ||
    fail "check finds nothing wrong without a token"
grep -q "imessage.token: the secret is empty" "$work/check" || { cat "$work/check"; fail "check does not name the token that is missing"; }
echo not-a-real-token >"$work/deb/etc/voicegate/linq-token"
chroot "$work/deb" voicegate check --config /etc/voicegate/config.toml >"$work/check" 2>&1 ||
    { cat "$work/check"; fail "check fails with a token in place"; }

user=$(chroot "$work/deb" id -u voicegate)
group=$(chroot "$work/deb" id -g voicegate)
serve() {
    starts "$work/deb" setpriv --reuid "$user" --regid "$group" --init-groups \
        voicegate serve --config /etc/voicegate/config.toml
}
serve
say "from a bare system to a ready gateway: $(($(date +%s) - began)) s"
answer=$(curl -sS --max-time 20 "http://127.0.0.1:8080/voice?to=%2B15551234567" \
    -H "Authorization: Bearer $(cat "$work/deb/etc/voicegate/api-key")" -H "Content-Type: audio/mpeg" \
    --data-binary @src/demo/sample.mp3)
id=$(echo "$answer" | sed -n 's/.*"id":"\(vn_[^"]*\)".*/\1/p')
[ -n "$id" ] || fail "the note was not accepted: $answer"
stops

say "installing it again keeps data and configuration"
echo '# mine' >>"$work/deb/etc/voicegate/config.toml"
chroot "$work/deb" apt-get install -y -qq --reinstall /srv/voicegate.deb >"$work/log" 2>&1
grep -q '^# mine' "$work/deb/etc/voicegate/config.toml" || fail "the upgrade replaced the configuration"
serve
curl -sS --max-time 20 "http://127.0.0.1:8080/voice/$id" \
    -H "Authorization: Bearer $(cat "$work/deb/etc/voicegate/api-key")" | grep -q "$id" || fail "the note is gone"
stops

chroot "$work/deb" apt-get purge -y -qq voicegate >"$work/log" 2>&1
grep -q "removing /var/lib/voicegate" "$work/log" || fail "the purge does not say what it removes"
for left in var/lib/voicegate etc/voicegate usr/bin/voicegate usr/lib/voicegate; do
    [ ! -e "$work/deb/$left" ] || fail "the purge leaves /$left"
done
umount "$work/deb/proc"

# --- The image ---------------------------------------------------------------------------------------------------------

say "laying out the image"
cp -a "$work/base" "$work/image"
# What the second stage of Containerfile does to its base.
chroot "$work/image" sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates' \
    >"$work/log" 2>&1 || fail "ca-certificates cannot be installed"
chroot "$work/image" useradd --system --user-group --uid 10001 --home-dir /var/lib/voicegate \
    --shell /usr/sbin/nologin voicegate
chroot "$work/image" install -d -o voicegate -g voicegate -m 750 /var/lib/voicegate
scripts/package.sh tree "$work/image"
mount -t proc proc "$work/image/proc"
for folder in usr etc; do
    mount --bind "$work/image/$folder" "$work/image/$folder"
    mount -o remount,bind,ro "$work/image/$folder"
done
starts "$work/image" setpriv --reuid 10001 --regid 10001 --clear-groups \
    voicegate serve --config /etc/voicegate/config.toml
stops
say "everything holds"
