#!/bin/sh
# Runs a command with a private PostgreSQL, whose URL is in VOICEGATE_TEST_POSTGRES.
#
#   scripts/with-postgres.sh cargo nextest run
#
# The server keeps its data in a temporary folder, listens only on a socket there, and is stopped and removed when the
# command has ended, successfully or not. VOICEGATE_TEST_PG_CTL is a command to control it. It does not flush to disk, which
# makes tests fast; VOICEGATE_TEST_PG_FSYNC=on makes it flush, for benchmarks. If VOICEGATE_TEST_POSTGRES is set already,
# that server is used unchanged; its user must be allowed to create and drop databases.
set -eu

[ -z "${VOICEGATE_TEST_POSTGRES:-}" ] || exec "$@"

say() { echo "with-postgres: $*" >&2; }

# The newest server that Debian or Homebrew has installed, which is not on the PATH; otherwise the one on the PATH.
find_server() {
    {
        ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin 2>/dev/null
        ls -d /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin 2>/dev/null
    } | while read -r folder; do
        [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] && echo "$folder"
    done | sed 's/.*postgresql[/@]\([0-9]*\).*\|.*pgsql-\([0-9]*\).*/\1\2 &/' | sort -n | tail -1 | cut -d ' ' -f 2-
}
bin=$(find_server)
[ -n "$bin" ] || bin=$(dirname "$(command -v initdb || echo /none/initdb)")
if [ ! -x "$bin/initdb" ]; then
    say "there is no PostgreSQL server here; scripts/setup.sh --test installs one"
    exit 1
fi

# A socket's path is limited to about a hundred characters, and the usual TMPDIR of macOS is too long for that.
folder=$(mktemp -d /tmp/voicegate-postgres.XXXXXX)
durable=${VOICEGATE_TEST_PG_FSYNC:-off}

# The server refuses to run as root.
run=
if [ "$(id -u)" -eq 0 ]; then
    user=nobody
    ! id postgres >/dev/null 2>&1 || user=postgres
    if command -v runuser >/dev/null 2>&1; then run="runuser -u $user --"; else run="sudo -u $user --"; fi
    chown "$user" "$folder"
fi
chmod 711 "$folder"

clean_up() {
    trap - EXIT
    # shellcheck disable=SC2086 # words
    (cd / && $run "$bin/pg_ctl" -D "$folder/data" -m immediate -w stop >/dev/null 2>&1) || true
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

(
    cd / # where the other user may be, too
    # shellcheck disable=SC2086
    $run "$bin/initdb" -D "$folder/data" -U voicegate -A trust -E UTF8 --locale=C --no-sync >"$folder.log" 2>&1 &&
        $run "$bin/pg_ctl" -D "$folder/data" -l "$folder/data/log" -w -o "-k $folder -c listen_addresses= \
            -c fsync=$durable -c full_page_writes=$durable -c max_connections=500" start >>"$folder.log" 2>&1
) || {
    cat "$folder.log" "$folder/data/log" >&2 2>/dev/null || true
    rm -f "$folder.log"
    say "the server did not start"
    exit 1
}
rm -f "$folder.log"

export VOICEGATE_TEST_POSTGRES="postgres://voicegate@localhost/postgres?host=$folder"
# For tests that stop and start a server of their own.
export VOICEGATE_TEST_PG_CTL="$run $bin/pg_ctl -D $folder/data -l $folder/data/log"
# Not exec: this shell has to clean up.
status=0
"$@" || status=$?
exit $status
