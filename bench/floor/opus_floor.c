/* What encoding with libopus alone costs: the floor that no program around it can go below.
 *
 *   opus-floor FILE RATE BITRATE COMPLEXITY
 *
 * FILE is mono s16le PCM at RATE. Prints how many bytes of packets came out. `make ffmpeg` builds it with the libopus
 * that it puts into ffmpeg. */

#include <opus.h>
#include <stdio.h>
#include <stdlib.h>

static void check(int status, const char *what) {
    if (status != OPUS_OK) {
        fprintf(stderr, "opus-floor: %s: %s\n", what, opus_strerror(status));
        exit(1);
    }
}

int main(int count, char **arguments) {
    if (count != 5) {
        fputs("usage: opus-floor FILE RATE BITRATE COMPLEXITY\n", stderr);
        return 2;
    }
    FILE *file = fopen(arguments[1], "rb");
    if (!file) {
        perror(arguments[1]);
        return 1;
    }
    int rate = atoi(arguments[2]);
    int status = OPUS_OK;
    OpusEncoder *encoder = opus_encoder_create(rate, 1, OPUS_APPLICATION_VOIP, &status);
    check(status, "RATE");
    check(opus_encoder_ctl(encoder, OPUS_SET_BITRATE(atoi(arguments[3]))), "BITRATE");
    check(opus_encoder_ctl(encoder, OPUS_SET_COMPLEXITY(atoi(arguments[4]))), "COMPLEXITY");

    /* 20 ms; the last frame is filled up with silence. */
    enum { MOST = 48000 / 50 };
    opus_int16 samples[MOST];
    unsigned char packet[1500];
    size_t frame = (size_t)rate / 50;
    long bytes = 0;
    for (size_t got; (got = fread(samples, sizeof *samples, frame, file)) > 0;) {
        while (got < frame) samples[got++] = 0;
        opus_int32 length = opus_encode(encoder, samples, (int)frame, packet, sizeof packet);
        check(length < 0 ? length : OPUS_OK, "encoding");
        bytes += length;
    }
    opus_encoder_destroy(encoder);
    fclose(file);
    printf("%ld\n", bytes);
    return 0;
}
