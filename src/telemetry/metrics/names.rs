//! Every metric there is: its name, its labels, and what it means. `docs/operations.md` prints this list, and the
//! dashboard and the alerts in `ops` are held against it.
//!
//! A label has few values: names from the configuration, or words from this code. Never a phone number, an id or a
//! URL: each value would be a series of its own for ever, and whoever may read metrics may not read those.

use prometheus_client::metrics::family::Family;

use super::kinds::{Buckets, Counter, Described, Gauge, Histogram, Total};

/// From the first byte of a request to the end of a wait.
const REQUEST: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// From a moment to a day.
const WAIT: &[f64] =
    &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0];
/// Of a disk that flushes.
const FLUSH: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Makes each metric, and the list of all. What is written above a metric is its help text.
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
    /// Notes that came to a status: taken from a bot (`queued`), ended, or raised by a receipt.
    NOTES: Counter = "voicegate_notes_total" ["tenant", "connection", "status"];
    /// Notes that ended without success, by the code and the stage of their error.
    NOTE_ERRORS: Counter = "voicegate_note_errors_total" ["tenant", "connection", "code", "stage"];
    /// From when a note was due until the provider took it.
    NOTE_ACCEPTED: Histogram(WAIT) = "voicegate_note_accepted_seconds" ["tenant", "connection"];
    /// From when a note was due until the provider said that it was delivered.
    NOTE_DELIVERED: Histogram(WAIT) = "voicegate_note_delivered_seconds" ["tenant", "connection"];

    /// Tries at a provider, by how they ended: `accepted`, `refused` (for good), `deferred` (for now), `unknown`.
    ATTEMPTS: Counter = "voicegate_attempts_total" ["tenant", "connection", "provider", "outcome"];
    /// Tries that were not accepted, by the code and the stage of their error.
    ATTEMPT_ERRORS: Counter = "voicegate_attempt_errors_total" ["tenant", "connection", "code", "stage"];
    /// How long a try took, converting included.
    ATTEMPT: Histogram(REQUEST) = "voicegate_attempt_seconds" ["provider", "outcome"];

    /// Times that a connection was paused because its provider asked for it.
    PAUSES: Counter = "voicegate_connection_pauses_total" ["tenant", "connection"];
    /// 1 while nothing goes out over the connection, because its provider asked for a pause.
    PAUSED: Gauge = "voicegate_connection_paused" ["tenant", "connection"];
    /// 1 while the last try said that the connection gives no usable answer, or refuses the account.
    FAILING: Gauge = "voicegate_connection_failing" ["tenant", "connection"];

    /// What is not done: `scheduled` for later, `queued`, `leased` (a worker prepares it), `sending`, `held` (its outcome is
    /// unknown), `unreadable` (set aside). The connection is `#events` for events that a webhook is told of, `#fetch` for
    /// notes whose audio.url has to be downloaded first, `#watch` for deadlines and look-ups, else the notes'.
    QUEUE: Gauge = "voicegate_queue_notes" ["tenant", "connection", "state"];
    /// How long the oldest of them that is due has been waiting for its end.
    QUEUE_OLDEST: Gauge = "voicegate_queue_oldest_seconds" ["tenant", "connection"];
    /// Reads of a stored row that was found damaged, by what it holds: `note`, `event`, `upload`, `receipt`, `learned`, or
    /// `row` where a value is not even text.
    UNREADABLE: Counter = "voicegate_unreadable_rows_total" ["kind"];
    /// Audio that a tenant keeps: sources, what was made of them, and uploads.
    KEPT_AUDIO: Gauge = "voicegate_kept_audio_bytes" ["tenant"];
    /// 1 where the database could be read and written when these metrics were read.
    DATABASE_UP: Gauge = "voicegate_database_up" [];
    /// 1 from when the database's files were found deleted, replaced or damaged, until the gateway is restarted.
    DATABASE_OUT_OF_ORDER: Gauge = "voicegate_database_out_of_order" [];
    /// Tries to write to the database, or to reach it, that failed: `full`, `busy`, `unavailable` (an error of the disk or of
    /// the way there), `damaged`, `other`.
    DATABASE_FAILURES: Counter = "voicegate_database_failures_total" ["kind"];
    /// Looks through the pages of a SQLite database: `whole` (to the last table), `part` (as far as the time went), `failed`
    /// (it could not be read), `damaged`.
    DATABASE_CHECKS: Counter = "voicegate_database_checks_total" ["outcome"];
    /// Changes that shared one flush of the database.
    DATABASE_BATCH: Histogram(BATCH) = "voicegate_database_batch_changes" [];
    /// How long one flush of the database took, its changes included.
    DATABASE_WRITE: Histogram(FLUSH) = "voicegate_database_write_seconds" [];
    /// Room on the disk of the database and of the media folder; with audio on S3 of the scratch folder.
    DISK_FREE: Gauge = "voicegate_disk_free_bytes" ["folder"];
    /// Below this much room nothing new is stored (storage.min_free).
    DISK_MIN_FREE: Gauge = "voicegate_disk_min_free_bytes" [];

    /// Runs of ffmpeg by purpose (`probe`, `encode`, `self-test`) and outcome (`ok`, `failed`, `died` without a reason,
    /// `timeout`, `too_much` output, `missing`, `error`, `canceled` because whoever wanted it went away).
    FFMPEG_RUNS: Counter = "voicegate_ffmpeg_runs_total" ["purpose", "outcome"];
    /// How long a run of ffmpeg took.
    FFMPEG: Histogram(REQUEST) = "voicegate_ffmpeg_seconds" ["purpose"];
    /// 1 where ffmpeg has made every profile since the start, 0 where it has not yet.
    FFMPEG_WORKS: Gauge = "voicegate_ffmpeg_works" [];
    /// Downloads of audio.url: `ok`, `refused` (it will not work later either), `failed` (it may), `disk`.
    FETCHES: Counter = "voicegate_fetches_total" ["outcome"];
    /// How long a download took.
    FETCH: Histogram(REQUEST) = "voicegate_fetch_seconds" [];
    /// Look-ups in what is remembered (`recipients`: what a provider said about a recipient), as `hit` or `miss`.
    CACHE: Counter = "voicegate_cache_lookups_total" ["cache", "result"];

    /// Calls by providers: `accepted`, `duplicate` (it had come before), `forged`, `stale`, `malformed`, `not_configured`,
    /// `unknown` (there is no such tenant or connection; both labels are empty).
    CALLBACKS: Counter = "voicegate_callbacks_total" ["tenant", "connection", "verdict"];
    /// Tries to hand an event to a tenant's webhook: `delivered`, `failed` (it is tried again), `given_up` after a day.
    EVENTS: Counter = "voicegate_event_deliveries_total" ["tenant", "outcome"];
    /// From what an event tells of until the tenant's webhook had it.
    EVENT_LAG: Histogram(WAIT) = "voicegate_event_lag_seconds" ["tenant"];

    /// Requests with an API key or a metrics token that nobody has.
    WRONG_KEYS: Counter = "voicegate_wrong_keys_total" [];
    /// Answers by path (as in the API reference; `other` for any that is not there), method and class of status.
    HTTP_REQUESTS: Counter = "voicegate_http_requests_total" ["method", "route", "status"];
    /// From a request's headers to its answer's headers; with `Prefer: wait`, the wait included.
    HTTP: Histogram(REQUEST) = "voicegate_http_request_seconds" ["method", "route"];

    /// Times that the machine's wall clock was set while the process ran, `forward` or `back`. Nothing is sent earlier, later
    /// or in another order for it.
    CLOCK_JUMPS: Counter = "voicegate_clock_jumps_total" ["direction"];
    /// Reloads of the configuration, as `ok` or `refused`.
    RELOADS: Counter = "voicegate_reloads_total" ["outcome"];
    /// 1 after SIGTERM, until the process ends.
    STOPPING: Gauge = "voicegate_stopping" [];
    /// Always 1; the label has the version.
    BUILD: Gauge = "voicegate_build_info" ["version"];
    /// Memory of this process, without that of ffmpeg.
    PROCESS_MEMORY: Gauge = "process_resident_memory_bytes" [];
    /// Processor time of this process, without that of ffmpeg.
    PROCESS_CPU: Total = "process_cpu_seconds_total" [];
    /// Open files, sockets included.
    PROCESS_FDS: Gauge = "process_open_fds" [];
    /// How many files may be open.
    PROCESS_MAX_FDS: Gauge = "process_max_fds" [];
    /// Threads of this process.
    PROCESS_THREADS: Gauge = "process_threads" [];
    /// When the process started, in seconds since 1970.
    PROCESS_START: Gauge = "process_start_time_seconds" [];
}
