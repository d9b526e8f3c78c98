#!/bin/sh
# Puts speech recordings of about ten seconds each into a folder, for the quality tests. Existing files are kept.
#
#   scripts/speech.sh FOLDER
#
# Synthesised speech comes from flite (in Debian's ffmpeg), from macOS, or from espeak-ng. If apt-get can download
# packages of Debian or Ubuntu, recordings of people are added: prompts of a telephone exchange (16 kHz) and of a sound
# test (48 kHz). Their packages are unpacked into the folder, not installed.
set -eu

[ $# -eq 1 ] || { echo "usage: scripts/speech.sh FOLDER" >&2; exit 2; }
mkdir -p "$1"
cat "$0" >"$1/.made-by.new"
cd "$1"
# Files that another version of this script made are removed.
cmp -s .made-by .made-by.new || rm -f ./*.wav
mv .made-by.new .made-by

has() { command -v "$1" >/dev/null 2>&1; }
ff() { ffmpeg -nostdin -hide_banner -loglevel error -y "$@"; }
# A recording gets its final name only when it is complete.
put() { mv "part.$1.wav" "$1.wav"; }

# Harvard sentences (IEEE, 1969), which contain every sound of English.
one="The birch canoe slid on the smooth planks. Glue the sheet to the dark blue background. It's easy to tell the depth of a well. These days a chicken leg is a rare dish."
two="The boy was there when the sun rose. A rod is used to catch pink salmon. The source of the huge river is the clear spring. Kick the ball straight and follow through."

# synthesise NAME VOICE TEXT: uses the first synthesiser that is installed
synthesise() {
    [ ! -s "$1.wav" ] || return 0
    printf '%s' "$3" >text
    if ffmpeg -hide_banner -filters 2>/dev/null | grep -q ' flite '; then
        ff -f lavfi -i "flite=textfile=text:voice=$2" "part.$1.wav"
    elif has say; then
        say --input-file=text --output-file="part.$1.wav" --data-format=LEI16@22050
    else
        espeak-ng -v en-us -s 150 -f text -w "part.$1.wav"
    fi
    rm -f text
    put "$1"
}

synthesise synthetic-one slt "$one"
synthesise synthetic-two awb "$two"

# unpacked PACKAGE: unpacks a package into a folder of that name
unpacked() {
    [ -d "$1" ] && return 0
    has apt-get && has dpkg-deb || return 1
    rm -rf get
    mkdir get
    if (cd get && apt-get -qq -o Acquire::http::Timeout=10 -o Acquire::Retries=1 download "$1" </dev/null >/dev/null 2>&1 && dpkg-deb -x "$1"_*.deb files); then
        mv get/files "$1"
    fi
    rm -rf get
    [ -d "$1" ]
}

if unpacked asterisk-core-sounds-en-g722; then
    for prompt in demo-congrats demo-abouttotry demo-moreinfo; do
        [ ! -s "person-$prompt.wav" ] || continue
        ff -f g722 -i "asterisk-core-sounds-en-g722/usr/share/asterisk/sounds/en_US_f_Allison/$prompt.g722" \
            -t 9.5 "part.person-$prompt.wav"
        put "person-$prompt"
    done
fi
if [ ! -s person-places.wav ] && unpacked alsa-utils; then
    set --
    for place in Front_Center Front_Left Front_Right Rear_Center Rear_Left Rear_Right Side_Left Side_Right; do
        set -- "$@" -i "alsa-utils/usr/share/sounds/alsa/$place.wav"
    done
    ff "$@" -filter_complex concat=n=8:v=0:a=1 -ac 1 part.person-places.wav
    put person-places
fi
