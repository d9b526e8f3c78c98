#!/bin/sh
# Runs a command with a private PostgreSQL, whose URL is in VOICEGATE_TEST_POSTGRES.
#
#   scripts/with-postgres.sh cargo nextest run
#
# The cluster is in a temporary folder, listens on a socket in it and on nothing else, and is stopped and removed when
# the command has ended, however that was. VOICEGATE_TEST_PG_CTL commands it. It forgets everything in a power cut; that makes tests fast
# (VOICEGATE_TEST_PG_FSYNC=on: it does not, for what measures). A URL that is set already is used as it is: its user makes databases and drops them again.
set -eu

[ -z "${VOICEGATE_TEST_POSTGRES:-}" ] || exec "$@"

say() { echo "with-postgres: $*" >&2; }

# The newest of what Debian and Homebrew have, neither of which is on the PATH; else what is.
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

# A socket's path may have about a hundred characters, and the usual TMPDIR of macOS is longer than it looks.
folder=$(mktemp -d /tmp/voicegate-postgres.XXXXXX)
durable=${VOICEGATE_TEST_PG_FSYNC:-off}

# The server refuses to be root.
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
