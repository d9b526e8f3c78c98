#!/bin/sh
# Builds what people install. The Makefile calls it.
#
#   scripts/package.sh dist            target/dist/voicegate-VERSION-SYSTEM.tar.gz with its checksum
#   scripts/package.sh deb             target/dist/voicegate_VERSION_ARCHITECTURE.deb, on Debian and Ubuntu
#   scripts/package.sh tree FOLDER     the files of the container image, without those of its base system
#   scripts/package.sh install         a copy on this machine, below PREFIX (default: /usr/local) within DESTDIR
#
# The release build and, on Debian and Ubuntu, the small ffmpeg are built first. Packages leave this machine, so that
# ffmpeg is built for all processors of the architecture; `install` builds it for this one.
set -eu
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
dist=$target/dist
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

say() { echo "package: $*" >&2; }

prepare() {
    scripts/setup.sh
    "${CARGO:-cargo}" build --release --locked --package voicegate --package xtask
    CPU=${1-} scripts/ffmpeg.sh
    "$target/release/xtask" man "$target/man"
    "$target/release/xtask" licences >"$target/licences.txt"
}

# stage PREFIX: lays the tree out anew and prints its folder.
stage() {
    rm -rf "$dist/stage"
    mkdir -p "$dist/stage"
    scripts/stage.sh "$dist/stage" "$1"
    echo "$dist/stage"
}

checksum() { # checksum FILE: writes FILE.sha256, which `sha256sum --check` reads beside FILE
    (cd "$(dirname "$1")" && { sha256sum "$(basename "$1")" 2>/dev/null || shasum -a 256 "$(basename "$1")"; }) \
        >"$1.sha256"
    say "$1, $(($(wc -c <"$1") / 1024)) KiB, and its checksum"
}

make_dist() {
    prepare any
    name=voicegate-$version-$(uname -m)-$(uname -s | tr '[:upper:]' '[:lower:]')
    tree=$(stage "/$name")
    tar -C "$tree" --owner=0 --group=0 --numeric-owner -czf "$dist/$name.tar.gz" "$name" 2>/dev/null ||
        tar -C "$tree" -czf "$dist/$name.tar.gz" "$name"
    checksum "$dist/$name.tar.gz"
}

make_deb() {
    command -v dpkg-deb >/dev/null 2>&1 || { say "dpkg-deb is needed; this builds on Debian and Ubuntu only"; exit 1; }
    prepare any
    tree=$(stage /usr)
    architecture=$(dpkg --print-architecture)
    install -D -m 644 ops/systemd/voicegate.service "$tree/lib/systemd/system/voicegate.service"
    rm -r "$tree/usr/share/doc/voicegate/systemd"
    install -D -m 640 ops/deb/config.toml "$tree/etc/voicegate/config.toml"
    install -m 644 ops/deb/copyright "$tree/usr/share/doc/voicegate/copyright"
    mkdir -p "$tree/DEBIAN"
    for script in postinst prerm postrm; do install -m 755 "ops/deb/$script" "$tree/DEBIAN/$script"; done
    echo /etc/voicegate/config.toml >"$tree/DEBIAN/conffiles"
    (cd "$tree" && find usr lib -type f -exec md5sum {} +) >"$tree/DEBIAN/md5sums"
    sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" \
        -e "s/@SIZE@/$(du -sk "$tree" | cut -f 1)/" -e "s/@LIBC@/$(needed_libc)/" ops/deb/control >"$tree/DEBIAN/control"
    # The permissions of folders must not depend on the umask.
    find "$tree" -type d -exec chmod 755 {} +
    dpkg-deb --root-owner-group --build "$tree" "$dist/voicegate_${version}_$architecture.deb" >/dev/null
    checksum "$dist/voicegate_${version}_$architecture.deb"
}

# The newest version of glibc whose symbols the executable uses.
needed_libc() {
    objdump -T "$target/release/voicegate" | sed -n 's/.*GLIBC_\([0-9.]*\)[^0-9.].*/\1/p' | sort -uV | tail -1
}

case ${1-} in
    dist) make_dist ;;
    deb) make_deb ;;
    tree)
        prepare any
        scripts/stage.sh "$2" /usr
        install -D -m 644 ops/container/config.toml "$2/etc/voicegate/config.toml"
        ;;
    install)
        prepare
        scripts/stage.sh "${DESTDIR-}" "${PREFIX:-/usr/local}"
        say "installed below ${DESTDIR-}${PREFIX:-/usr/local}"
        ;;
    *)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
