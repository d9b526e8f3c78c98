"""Judges speech by PESQ (ITU-T P.862.2, wideband) and STOI.

Reads a JSON list of {"before", "after", "late"}: two WAV files of 16 kHz, mono, 16 bits, and by how many samples the
second starts later. Writes a list of {"pesq", "stoi"} in the same order.
"""

import json
import sys
import wave
from concurrent.futures import ProcessPoolExecutor

import numpy
from pesq import pesq
from pystoi import stoi

RATE = 16_000


def read(path):
    with wave.open(path) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2), path
        return numpy.frombuffer(file.readframes(file.getnframes()), dtype="<i2") / 32768


def judge(pair):
    before, after = read(pair["before"]), read(pair["after"])
    late = pair["late"]
    # PESQ finds the delay by itself; STOI compares sample with sample.
    aligned = after[late:] if late >= 0 else numpy.concatenate([numpy.zeros(-late), after])
    length = min(len(before), len(aligned))
    return {
        "pesq": pesq(RATE, before, after, "wb"),
        "stoi": float(stoi(before[:length], aligned[:length], RATE)),
    }


if __name__ == "__main__":
    with ProcessPoolExecutor() as workers:
        json.dump(list(workers.map(judge, json.load(sys.stdin))), sys.stdout)
