//! All metrics: names, labels and descriptions. `docs/operations.md` prints this list, and tests compare the dashboard
//! and the alerts in `ops` with it.
//!
//! A label has few values: names from the configuration, or constants of this code. It never contains a phone number,
//! an id or a URL: each value would create a permanent series, and people who may read metrics may not read those.

use prometheus_client::metrics::family::Family;

use super::kinds::{Buckets, Counter, Described, Gauge, Histogram, Total};

/// Buckets from the first byte of a request to the longest wait, in seconds.
const REQUEST: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Buckets from a tenth of a second to a day, in seconds.
const WAIT: &[f64] =
    &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0];
/// Buckets for a flush to disk, in seconds.
const FLUSH: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Defines each metric and the list of all metrics. The comment above a metric is its help text.
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $name:ident: $kind:tt $(($buckets:expr))? = $full:literal [$($label:literal),*];)*) => {
        $($(#[doc = $help])+ pub static $name: metrics!(@type $kind $($label)*) =
            metrics!(@new $kind $(($buckets))? $full [$($label),*] concat!($($help),+));)*

        pub static ALL: &[&dyn Described] = &[$(&$name),*];
    };
    (@type Total) => { Total };
    (@type $kind:tt $($label:literal)*) => { $kind<{ <[&str]>::len(&[$($label),*]) }> };
    (@new Histogram ($buckets:expr) $full:literal $labels:tt $help:expr) => {
        Histogram::new($full, &$labels, $help, || Family::new_with_constructor(Buckets($buckets)))
    };
    (@new $kind:tt $full:literal $labels:tt $help:expr) => { $kind::new($full, &$labels, $help) };
}

metrics! {
    /// Notes that reached a status: accepted from a bot (`queued`), ended, or raised by a receipt.
    NOTES: Counter = "voicegate_notes_total" ["tenant", "connection", "status"];
    /// Notes that ended without success, by the code and the stage of their error.
    NOTE_ERRORS: Counter = "voicegate_note_errors_total" ["tenant", "connection", "code", "stage"];
    /// Time from when a note was due until the provider accepted it.
    NOTE_ACCEPTED: Histogram(WAIT) = "voicegate_note_accepted_seconds" ["tenant", "connection"];
    /// Time from when a note was due until the provider reported its delivery.
    NOTE_DELIVERED: Histogram(WAIT) = "voicegate_note_delivered_seconds" ["tenant", "connection"];

    /// Notes that a recovery looked at: `resent`, or `failed` because they could not be sent again.
    RECOVERED: Counter = "voicegate_recovered_notes_total" ["tenant", "outcome"];
    /// Tasks that are running, such as recoveries.
    TASKS: Gauge = "voicegate_tasks_running" ["tenant"];

    /// Attempts at a provider, by outcome: `accepted`, `refused` (permanently), `deferred` (temporarily), `unknown`.
    ATTEMPTS: Counter = "voicegate_attempts_total" ["tenant", "connection", "provider", "outcome"];
    /// Attempts that were not accepted, by the code and the stage of their error.
    ATTEMPT_ERRORS: Counter = "voicegate_attempt_errors_total" ["tenant", "connection", "code", "stage"];
    /// Duration of an attempt, conversion included.
    ATTEMPT: Histogram(REQUEST) = "voicegate_attempt_seconds" ["provider", "outcome"];

    /// Pauses of a connection that its provider asked for.
    PAUSES: Counter = "voicegate_connection_pauses_total" ["tenant", "connection"];
    /// 1 while nothing is sent over the connection, because its provider asked for a pause.
    PAUSED: Gauge = "voicegate_connection_paused" ["tenant", "connection"];
    /// 1 while the last attempt found that the connection gives no usable answer, or refuses the account.
    FAILING: Gauge = "voicegate_connection_failing" ["tenant", "connection"];

    /// Work in the queue: `scheduled` for later, `queued`, `leased` (a worker prepares it), `sending`, `held` (its
    /// outcome is unknown), `unreadable` (set aside). The connection is that of the notes, or `#events` for events to
    /// be posted to a webhook, `#fetch` for notes whose audio has to be downloaded or spoken first, `#inbound` for received
    /// notes that have to be fetched and read, `#watch` for deadlines and look-ups.
    QUEUE: Gauge = "voicegate_queue_notes" ["tenant", "connection", "state"];
    /// Waiting time of the oldest entry that is due.
    QUEUE_OLDEST: Gauge = "voicegate_queue_oldest_seconds" ["tenant", "connection"];
    /// Reads of a stored row that was found damaged, by its content: `note`, `received`, `event`, `upload`, `receipt`,
    /// `learned`, or `row` if a value is not even text.
    UNREADABLE: Counter = "voicegate_unreadable_rows_total" ["kind"];
    /// Audio that a tenant keeps: sources, converted files, uploads and received notes.
    KEPT_AUDIO: Gauge = "voicegate_kept_audio_bytes" ["tenant"];
    /// 1 if the database could be read and written when these metrics were read.
    DATABASE_UP: Gauge = "voicegate_database_up" [];
    /// 1 after the database's files were found deleted, replaced or damaged, until the gateway is restarted.
    DATABASE_OUT_OF_ORDER: Gauge = "voicegate_database_out_of_order" [];
    /// Failed attempts to write to the database or to reach it: `full`, `busy`, `unavailable` (an error of the disk or
    /// the network), `damaged`, `other`.
    DATABASE_FAILURES: Counter = "voicegate_database_failures_total" ["kind"];
    /// Checks of the pages of a SQLite database: `whole` (to the last table), `part` (as far as the time allowed),
    /// `failed` (it could not be read), `damaged`.
    DATABASE_CHECKS: Counter = "voicegate_database_checks_total" ["outcome"];
    /// Changes that shared one flush of the database.
    DATABASE_BATCH: Histogram(BATCH) = "voicegate_database_batch_changes" [];
    /// Duration of one flush of the database, its changes included.
    DATABASE_WRITE: Histogram(FLUSH) = "voicegate_database_write_seconds" [];
    /// Free space on the disks of the database and of the media folder, or with audio on S3 of the scratch folder.
    DISK_FREE: Gauge = "voicegate_disk_free_bytes" ["folder"];
    /// Limit of free space below which nothing new is stored (storage.min_free).
    DISK_MIN_FREE: Gauge = "voicegate_disk_min_free_bytes" [];

    /// Runs of ffmpeg by purpose (`probe`, `encode`, `self-test`) and outcome (`ok`, `failed`, `died` without a reason,
    /// `timeout`, `too_much` output, `missing`, `error`, `canceled` because the caller had gone).
    FFMPEG_RUNS: Counter = "voicegate_ffmpeg_runs_total" ["purpose", "outcome"];
    /// Duration of a run of ffmpeg.
    FFMPEG: Histogram(REQUEST) = "voicegate_ffmpeg_seconds" ["purpose"];
    /// Sources that were decoded without making a file of them: `in_process`, or by ffmpeg because of the `structure`
    /// (not clean, or too short), because there is `no_decoder`, because a decoder `failed`, reached its `limit` or
    /// `panicked`, or because the sound is `odd` (channels that cancel each other out, a constant part, next to
    /// nothing to hear).
    AUDIO_DECODED: Counter = "voicegate_audio_decoded_total" ["way"];
    /// 1 if ffmpeg has made every profile since the start, otherwise 0.
    FFMPEG_WORKS: Gauge = "voicegate_ffmpeg_works" [];
    /// Downloads of audio.url: `ok`, `refused` (a repetition would not help), `failed` (it may help), `disk`.
    FETCHES: Counter = "voicegate_fetches_total" ["outcome"];
    /// Duration of a download.
    FETCH: Histogram(REQUEST) = "voicegate_fetch_seconds" [];
    /// Signs to a recipient that a note is being recorded: `shown` or `failed`.
    PRESENCE: Counter = "voicegate_presence_total" ["tenant", "connection", "outcome"];
    /// Requests to a speech server: `ok`, `refused` (a repetition would not help), `failed` (it may help), `disk`.
    SPEECHES: Counter = "voicegate_speech_requests_total" ["tenant", "server", "outcome"];
    /// Duration of a request to a speech server, to the end of the audio.
    SPEECH: Histogram(REQUEST) = "voicegate_speech_seconds" ["tenant", "server"];
    /// Requests to a transcription server: `ok`, `refused` (a repetition would not help), `failed` (it may help).
    TRANSCRIPTIONS: Counter = "voicegate_transcription_requests_total" ["tenant", "server", "outcome"];
    /// Duration of a request to a transcription server.
    TRANSCRIPTION: Histogram(REQUEST) = "voicegate_transcription_seconds" ["tenant", "server"];
    /// Look-ups in a cache (`recipients`: what a provider said about a recipient; `renders`: converted audio; `speech`: a
    /// text that was spoken before), as `hit` or `miss`.
    CACHE: Counter = "voicegate_cache_lookups_total" ["cache", "result"];

    /// Voice notes that people sent, by what became of them: `new` (committed after a callback), `duplicate` (the message
    /// had come before), `received`, `failed`.
    RECEIVED: Counter = "voicegate_received_notes_total" ["tenant", "connection", "status"];
    /// Received notes that failed, by the code and the stage of their error.
    RECEIVED_ERRORS: Counter = "voicegate_received_errors_total" ["tenant", "connection", "code", "stage"];
    /// Time from the callback until a received note was announced.
    RECEIVED_SECONDS: Histogram(WAIT) = "voicegate_received_seconds" ["tenant", "connection"];
    /// Downloads of received notes from providers: `ok`, `refused` (a repetition would not help), `failed` (it may help),
    /// `disk`.
    RECEIVED_FETCHES: Counter = "voicegate_received_fetches_total" ["provider", "outcome"];
    /// Duration of a download of a received note.
    RECEIVED_FETCH: Histogram(REQUEST) = "voicegate_received_fetch_seconds" ["provider"];

    /// Calls by providers: `accepted`, `duplicate` (it had come before), `forged`, `stale`, `malformed`,
    /// `not_configured`, `unknown` (there is no such tenant or connection, and both labels are empty).
    CALLBACKS: Counter = "voicegate_callbacks_total" ["tenant", "connection", "verdict"];
    /// Deliveries of events to a tenant's webhook: `delivered`, `failed` (tried again), `given_up` after a day.
    EVENTS: Counter = "voicegate_event_deliveries_total" ["tenant", "outcome"];
    /// 1 while nothing is posted to a tenant's webhook, because it failed for five days.
    WEBHOOK_PAUSED: Gauge = "voicegate_webhook_paused" ["tenant"];
    /// Time from an event until the tenant's webhook received it.
    EVENT_LAG: Histogram(WAIT) = "voicegate_event_lag_seconds" ["tenant"];

    /// Requests with an API key or a metrics token that is not known.
    WRONG_KEYS: Counter = "voicegate_wrong_keys_total" [];
    /// Answers by path (as in the API reference; `other` for any other path), method and class of status.
    HTTP_REQUESTS: Counter = "voicegate_http_requests_total" ["method", "route", "status"];
    /// Time from a request's headers to its answer's headers, including the wait with `Prefer: wait`.
    HTTP: Histogram(REQUEST) = "voicegate_http_request_seconds" ["method", "route"];

    /// Answers in the API of another gateway (`evolution`, `waha`, `wawp`, `linq`, `converter`) by class of status.
    DIALECT_REQUESTS: Counter = "voicegate_dialect_requests_total" ["dialect", "status"];

    /// Changes of the machine's wall clock while the process ran, `forward` or `back`. They do not affect when, or in
    /// which order, anything is sent.
    CLOCK_JUMPS: Counter = "voicegate_clock_jumps_total" ["direction"];
    /// Reloads of the configuration, as `ok` or `refused`.
    RELOADS: Counter = "voicegate_reloads_total" ["outcome"];
    /// 1 after SIGTERM, until the process ends.
    STOPPING: Gauge = "voicegate_stopping" [];
    /// Always 1; the label `version` has the version.
    BUILD: Gauge = "voicegate_build_info" ["version"];
    /// Memory of this process, without that of ffmpeg.
    PROCESS_MEMORY: Gauge = "process_resident_memory_bytes" [];
    /// Processor time of this process, without that of ffmpeg.
    PROCESS_CPU: Total = "process_cpu_seconds_total" [];
    /// Open files, sockets included.
    PROCESS_FDS: Gauge = "process_open_fds" [];
    /// The limit on open files.
    PROCESS_MAX_FDS: Gauge = "process_max_fds" [];
    /// Threads of this process.
    PROCESS_THREADS: Gauge = "process_threads" [];
    /// Start time of the process, in seconds since 1970.
    PROCESS_START: Gauge = "process_start_time_seconds" [];
}
