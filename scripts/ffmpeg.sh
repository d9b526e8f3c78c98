#!/bin/sh
# Builds a static ffmpeg with only the features that voicegate uses: no network, no video, no devices.
# If it is already built, the script prints nothing and ends at once.
#
# This ffmpeg starts in a millisecond, while a distribution's first links about two hundred libraries, and it encodes with
# a newer libopus. The source of ffmpeg is the distribution's, with its security fixes; that of libopus comes from
# crates.io. On systems other than Debian and Ubuntu the script builds nothing, and voicegate uses the ffmpeg on the PATH.
#
# The result is TARGET/tools/ffmpeg/ffmpeg, where TARGET is target/ or CARGO_TARGET_DIR, and a copy is put beside each
# executable, where voicegate looks first. JOBS=1 builds with one process instead of one per core. If the processor of
# this machine has AVX2, the result runs only on processors with AVX2, which saves 8 %. CPU=any builds one for all
# processors, and any other of gcc's names for -march= one for those.
set -eu
cd "$(dirname "$0")/.."

say() { echo "ffmpeg: $*" >&2; }

target=${CARGO_TARGET_DIR:-target}
tools=$target/tools/ffmpeg

if [ "$(uname -s)" != Linux ] || ! command -v apt-get >/dev/null 2>&1; then
    say "this builds on Debian and Ubuntu only; voicegate uses the ffmpeg on the PATH"
    exit 0
fi

# The formats that it can read, by ffmpeg's names. A format that is not listed here fails only at run time, so
# `make test-ffmpeg` runs the audio tests with this ffmpeg.
demuxers="aac aiff amr amrnb amrwb caf flac matroska mov mp3 ogg w64 wav
    pcm_alaw pcm_f32be pcm_f32le pcm_f64be pcm_f64le pcm_mulaw pcm_s16be pcm_s16le pcm_s24be pcm_s24le pcm_s32be
    pcm_s32le pcm_s8 pcm_u8"
decoders="aac aac_latm alac amrnb amrwb flac gsm gsm_ms mp1float mp2float mp3float opus speex vorbis
    adpcm_g722 adpcm_g726 adpcm_ima_qt adpcm_ima_wav adpcm_ms
    pcm_alaw pcm_f32be pcm_f32le pcm_f64be pcm_f64le pcm_mulaw pcm_s16be pcm_s16le pcm_s24be pcm_s24le pcm_s32be
    pcm_s32le pcm_s8 pcm_u8"
# Without its parser, audio of a format is cut short, and ffmpeg still reports success.
parsers="aac aac_latm amr flac gsm mpegaudio opus vorbis"
# The formats that it can write.
encoders="aac libmp3lame libopus pcm_f32le pcm_s16le"
muxers="caf ipod mp3 mp4 null ogg opus pcm_f32le pcm_s16le wav"
filters="aformat anull aresample asetpts asplit atrim dcshift highpass loudnorm pan volume"
bsfs="aac_adtstoasc"
protocols="file pipe"

# Tests for the processor features of x86-64-v3, by their names in Linux.
has_v3() {
    [ "$(uname -m)" = x86_64 ] || return 1
    for flag in avx2 bmi1 bmi2 fma f16c movbe abm; do
        grep -qw "$flag" /proc/cpuinfo || return 1
    done
}
CPU=${CPU:-}
[ -n "$CPU" ] || ! has_v3 || CPU=x86-64-v3
[ "$CPU" != any ] || CPU=

# Everything that the result depends on, including the version of the distribution's package.
wanted() {
    apt-cache policy ffmpeg 2>/dev/null | grep Candidate || true
    echo "${CPU:-any}"
    cat scripts/ffmpeg.sh scripts/ffmpeg/Cargo.lock bench/floor/opus_floor.c | cksum
}

# Copies ffmpeg to the folders of the executables. The copy is moved into place, since the old one may be running.
place() {
    for profile in debug release; do
        ! cmp -s "$tools/ffmpeg" "$target/$profile/ffmpeg" || continue
        mkdir -p "$target/$profile"
        cp "$tools/ffmpeg" "$target/$profile/ffmpeg.new"
        mv "$target/$profile/ffmpeg.new" "$target/$profile/ffmpeg"
    done
}

if [ "$(wanted)" = "$(cat "$tools/built" 2>/dev/null)" ] && [ -x "$tools/ffmpeg" ]; then
    place
    exit 0
fi

scripts/setup.sh --ffmpeg
mkdir -p "$tools"
tools=$(cd "$tools" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
unset MAKEFLAGS MFLAGS

# logged NAME COMMAND...: runs a command and prints the end of its output only if it fails.
logged() {
    log=$work/$1.log
    shift
    "$@" >"$log" 2>&1 </dev/null || {
        tail -n 30 "$log" >&2
        say "this failed: $*"
        exit 1
    }
}

# --- Sources -------------------------------------------------------------------------------------------------------

# The source entries are derived from the system's package entries for this release, in a separate configuration, so the
# system's own is not changed and root is not needed. apt verifies the downloads with the keys that it already trusts.
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
[ -n "$release" ] || release=sid
apt=$work/apt
mkdir -p "$apt/parts" "$apt/lists/partial" "$apt/cache/archives/partial"
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ ! -f "$list" ] || sed -nE "s/^deb ((\[[^]]*\] )?[^ ]+ $release(-[a-z]+)? .*)/deb-src \1/p" "$list"
done >"$apt/parts/voicegate.list"
for list in /etc/apt/sources.list.d/*.sources; do
    [ ! -f "$list" ] || awk -v release="$release" 'BEGIN { RS = ""; ORS = "\n\n" }
        $0 ~ "(^|\n)Suites:[^\n]* " release "([ \n-]|$)" { gsub(/(^|\n)Types:[^\n]*/, "\nTypes: deb-src"); print }' "$list"
done >"$apt/parts/voicegate.sources"
apt_get() {
    apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$apt/parts" \
        -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" "$@"
}
say "fetching the source of $release's ffmpeg, and libopus"
logged update apt_get update
cd "$work"
logged source apt_get source ffmpeg
cd - >/dev/null
logged vendor cargo vendor --locked --manifest-path scripts/ffmpeg/Cargo.toml "$work/crates"
cp -r "$work/crates/opusic-sys/opus" "$work/opus"
# Give all files the same time, otherwise make generates existing files again.
find "$work/opus" -exec touch -r "$work/opus/configure.ac" {} +

# --- libopus -------------------------------------------------------------------------------------------------------

say "building libopus and ffmpeg with $jobs at a time; this takes some minutes"
cflags="-fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2${CPU:+ -march=$CPU}"
prefix=$work/prefix
mkdir "$work/opus-build"
cd "$work/opus-build"
# Faster instructions are chosen at run time. That is the default, and is stated because the speed depends on it.
logged opus-configure "$work/opus/configure" --prefix="$prefix" --disable-shared --enable-static --enable-rtcd \
    --enable-intrinsics --disable-doc --disable-extra-programs --disable-dependency-tracking \
    CFLAGS="-O3 -DNDEBUG $cflags"
logged opus-make make -j "$jobs"
logged opus-install make install
cd - >/dev/null

# --- ffmpeg --------------------------------------------------------------------------------------------------------

# enable KIND NAMES: prints one option for each name.
enable() {
    kind=$1
    shift
    for name; do printf -- '--enable-%s=%s ' "$kind" "$name"; done
}
cd "$work"/ffmpeg-*/
package=$(dpkg-parsechangelog --show-field Version)
# No --enable-gpl: the result is under the LGPL, as libmp3lame is.
# shellcheck disable=SC2046,SC2086 # lists of words
PKG_CONFIG_PATH=$prefix/lib/pkgconfig logged configure ./configure \
    --disable-everything --disable-autodetect --disable-network --disable-doc --disable-debug \
    --disable-ffplay --disable-ffprobe --disable-avdevice --disable-swscale \
    --extra-version="${package#*-}-voicegate" --enable-pthreads --enable-pic --enable-libopus --enable-libmp3lame \
    --pkg-config-flags=--static --extra-cflags="$cflags" --extra-ldflags="-static-pie -Wl,-z,relro,-z,now" \
    $(enable demuxer $demuxers) $(enable decoder $decoders) $(enable parser $parsers) $(enable encoder $encoders) \
    $(enable muxer $muxers) $(enable filter $filters) $(enable bsf $bsfs) $(enable protocol $protocols)

# is_enabled KIND NAMES: configure silently ignores unknown names and features whose dependencies are missing, so check
# that each name is really enabled.
is_enabled() {
    kind=$1
    shift
    for name; do
        symbol=$(echo "${name}_$kind" | tr '[:lower:]' '[:upper:]')
        grep -qsx "#define CONFIG_$symbol 1" config.h config_components.h || {
            say "the $kind $name would be missing"
            exit 1
        }
    done
}
# shellcheck disable=SC2086 # lists of words
{
    is_enabled demuxer $demuxers
    is_enabled decoder $decoders
    is_enabled parser $parsers
    is_enabled encoder $encoders
    is_enabled muxer $muxers
    is_enabled filter $filters
    is_enabled bsf $bsfs
    is_enabled protocol $protocols
}
if [ "$(uname -m)" = x86_64 ]; then
    for fast in HAVE_X86ASM HAVE_AVX2_EXTERNAL CONFIG_RUNTIME_CPUDETECT; do
        grep -qx "#define $fast 1" config.h || { say "it would be slow: no $fast"; exit 1; }
    done
    grep -qx '#define OPUS_X86_MAY_HAVE_AVX2 1' "$work/opus-build/config.h" || {
        say "it would be slow: libopus has no AVX2"
        exit 1
    }
fi
logged make make -j "$jobs" ffmpeg
strip ffmpeg
# What a package with this ffmpeg has to contain: the licences, and where the source is.
{
    echo "ffmpeg $package, of Debian's or Ubuntu's source package ffmpeg: LGPL 2.1 or later. scripts/ffmpeg.sh in the"
    echo "source of voicegate fetches that source and builds this program."
    cat COPYING.LGPLv2.1
    echo
    echo "LAME, linked into it, of the package libmp3lame-dev:"
    cat /usr/share/doc/libmp3lame-dev/copyright
    echo
    echo "libopus, linked into it:"
    cat "$work/opus/COPYING"
} >"$tools/licences.txt"
cp ffmpeg "$tools/ffmpeg.new"
cd - >/dev/null
cc -O2 $cflags -static-pie -I "$prefix/include/opus" bench/floor/opus_floor.c "$prefix/lib/libopus.a" -lm \
    -o "$tools/opus-floor"
strip "$tools/opus-floor"

"$tools/ffmpeg.new" -hide_banner -loglevel error -version >"$work/version"
mv "$tools/ffmpeg.new" "$tools/ffmpeg"
place
wanted >"$tools/built"
say "$(head -n 1 "$work/version" | cut -d ' ' -f 1-3), libopus $(sed -n 's/^Version: //p' "$prefix/lib/pkgconfig/opus.pc")," \
    "$(($(wc -c <"$tools/ffmpeg") / 1024)) KiB: $tools/ffmpeg"
