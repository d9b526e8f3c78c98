use proptest::prelude::*;
use voicegate_audio::Stage as AudioStage;
use voicegate_providers::{SendErrorKind, Stage as ProviderStage};

use super::*;
use crate::model::code::{Code, Stage};
use crate::model::note::{
    AudioSource,
    sample::{note, start},
};

const POLICY: Policy = Policy { resend: false, idempotency: None, unknown_grace: Duration::from_secs(30) };

fn failed(kind: SendErrorKind) -> Result<Accepted, Failure> {
    Err(Failure::from(SendError::new(kind, "told so")))
}

fn at(seconds: u64) -> Timing {
    let started = start() + Duration::from_secs(seconds);
    Timing { started, ended: started, jitter: 0.5 }
}

#[test]
fn each_disposition_leads_to_its_status() {
    use SendErrorKind::{NotReachable, OptedOut, OutcomeUnknown, RateLimited, Unavailable};
    for (kind, connections, status, outcome) in [
        (OptedOut, 2, Status::Failed, Outcome::Refused),
        (NotReachable, 1, Status::Failed, Outcome::Refused),
        (NotReachable, 2, Status::Queued, Outcome::Refused),
        (Unavailable, 1, Status::Queued, Outcome::Deferred),
        (RateLimited, 1, Status::Queued, Outcome::Deferred),
        (OutcomeUnknown, 2, Status::Unknown, Outcome::Unknown),
    ] {
        let mut note = note(connections);
        let step = settle(&mut note, failed(kind), at(0), POLICY);
        assert_eq!((note.status, note.attempts[0].outcome), (status, outcome), "{kind:?}");
        assert_eq!(note.error.is_some(), status != Status::Queued, "{kind:?}");
        assert_eq!(note.next_attempt_at.is_some(), status == Status::Queued, "{kind:?}");
        match status {
            Status::Queued => assert!(matches!(step, Step::Retry { .. }), "{kind:?}"),
            Status::Unknown => assert_eq!(step, Step::Hold { until: start() + Duration::from_secs(30) }),
            _ => assert_eq!(step, Step::Done, "{kind:?}"),
        }
    }
}

/// A provider may say that a group does not exist because it was not connected for a moment.
#[test]
fn doubtful_finding_is_believed_after_so_many_equal_answers() {
    let mut doubted = note(2);
    for n in 1..3 {
        let error = SendError::new(SendErrorKind::NotReachable, "no such group").at_most(3);
        settle(&mut doubted, Err(error.into()), at(n), POLICY);
        assert_eq!((doubted.status, doubted.position), (Status::Queued, 0), "{n}");
        assert_eq!(doubted.attempts.last().expect("an attempt").outcome, Outcome::Deferred);
    }
    let error = SendError::new(SendErrorKind::NotReachable, "no such group").at_most(3);
    settle(&mut doubted, Err(error.into()), at(3), POLICY);
    assert_eq!((doubted.status, doubted.position), (Status::Queued, 1), "on to the next connection");
}

#[test]
fn expired_note_says_so_and_names_no_wait() {
    let mut late = note(1);
    let error = SendError::new(SendErrorKind::Unavailable, "the provider has a fault");
    settle(&mut late, Err(error.after(Duration::from_secs(30)).into()), at(0), POLICY);
    expire(&mut late, at(4000).ended);
    let error = late.error.expect("an error");
    assert_eq!((late.status, error.retry_after), (Status::Expired, None));
    for part in ["expired before it was sent", "the provider has a fault", "/resend"] {
        assert!(error.detail.contains(part), "{part}: {}", error.detail);
    }
}

#[test]
fn only_a_rate_limit_pauses_the_connection_and_the_pause_is_bounded() {
    let mut limited = note(1);
    let error = SendError::new(SendErrorKind::RateLimited, "slower").after(Duration::from_secs(3000));
    let step = settle(&mut limited, Err(error.into()), at(0), POLICY);
    let pause = Some(start() + LONGEST_PAUSE);
    assert!(
        matches!(step, Step::Retry { at, pause_connection_until } if at >= start() + Duration::from_secs(3000)
        && pause_connection_until == pause)
    );
    let step = settle(&mut note(1), failed(SendErrorKind::Unavailable), at(0), POLICY);
    assert!(matches!(step, Step::Retry { pause_connection_until: None, .. }));
}

#[test]
fn rate_limit_of_a_recipient_pauses_no_connection() {
    let error = SendError::new(SendErrorKind::RateLimited, "slower").about(Scope::Recipient);
    let step = settle(&mut note(1), Err(error.after(Duration::from_secs(60)).into()), at(0), POLICY);
    assert!(
        matches!(step, Step::Retry { at, pause_connection_until: None } if at >= start() + Duration::from_secs(60))
    );
}

#[test]
fn note_is_repeated_only_within_the_idempotency_window() {
    let window = |seconds| Policy {
        idempotency: Some(Idempotency { window: Duration::from_secs(seconds) }),
        ..POLICY
    };
    let unknown = || failed(SendErrorKind::OutcomeUnknown);
    let mut kept = note(1);
    settle(&mut kept, unknown(), at(0), window(3600));
    assert_eq!(kept.status, Status::Queued);
    assert!(
        window(3600).may_send(&kept, at(3599).started) && !window(3600).may_send(&kept, at(3600).started)
    );
    assert!(Policy { resend: true, ..POLICY }.may_send(&kept, at(9999).started));
    // The next attempt would already be too late.
    let mut late = note(1);
    settle(&mut late, unknown(), at(0), window(0));
    assert_eq!(late.status, Status::Unknown);
    // The window begins at the first unknown attempt, not at the last.
    settle(&mut kept, unknown(), at(3590), window(3591));
    assert_eq!(kept.status, Status::Unknown);
}

#[test]
fn connection_known_to_fail_is_skipped_without_an_attempt() {
    let unavailable = Problem::new(Code::FormUnavailable, "no voice notes");
    let mut elsewhere = note(2);
    assert!(
        matches!(pass_over(&mut elsewhere, &unavailable, at(1).ended), Step::Retry { at: due, .. } if due == at(1).ended)
    );
    assert_eq!((elsewhere.position, elsewhere.status, elsewhere.attempts.len()), (1, Status::Queued, 0));
    let code = |note: &Note| note.error.as_ref().map(|error| error.code.to_string());
    assert_eq!(pass_over(&mut elsewhere, &unavailable, at(2).ended), Step::Done);
    assert_eq!((elsewhere.status, code(&elsewhere).as_deref()), (Status::Failed, Some("form_unavailable")));
    // If an attempt was made, its refusal is the reason.
    let mut refused = note(1);
    let Err(failure) = failed(SendErrorKind::FormUnavailable) else { unreachable!() };
    step_down(&mut refused, &failure, at(0));
    assert_eq!(refused.attempts[0].outcome, Outcome::Refused);
    pass_over(&mut refused, &unavailable, at(1).ended);
    assert_eq!(code(&refused).as_deref(), Some("recipient_unsupported"));
    // A note that may have arrived is never reported as not sent.
    let mut unknown = note(2);
    settle(&mut unknown, failed(SendErrorKind::OutcomeUnknown), at(0), Policy { resend: true, ..POLICY });
    pass_over(&mut unknown, &unavailable, at(1).ended);
    assert_eq!((unknown.status, unknown.position), (Status::Unknown, 0));
}

#[test]
fn accepted_note_has_a_warning_for_each_difference() {
    let mut note = note(1);
    let accepted = Accepted {
        message_id: "m".to_owned(),
        form: Some(Form::Audio),
        warnings: vec![SendWarning::ReplyLost],
        ..Accepted::default()
    };
    settle(&mut note, Ok(accepted), at(0), POLICY);
    let codes: Vec<_> = note.warnings.iter().map(|warning| warning.code.as_str()).collect();
    assert_eq!((note.form, codes.as_slice()), (Some(Form::Audio), &["form_degraded", "reply_lost"][..]));
}

#[test]
fn unknown_note_never_becomes_failed_nor_changes_its_connection() {
    let repeat = Policy { resend: true, ..POLICY };
    for later in [SendErrorKind::NotReachable, SendErrorKind::Rejected] {
        let mut note = note(2);
        settle(&mut note, failed(SendErrorKind::OutcomeUnknown), at(0), repeat);
        assert_eq!(note.status, Status::Queued);
        settle(&mut note, failed(later), at(10), repeat);
        assert_eq!((note.status, note.position), (Status::Unknown, 0), "{later:?}");
    }
    let mut note = note(1);
    settle(&mut note, failed(SendErrorKind::OutcomeUnknown), at(0), repeat);
    expire(&mut note, at(4000).ended);
    assert_eq!(note.status, Status::Unknown);
}

#[test]
fn download_from_a_bots_server_is_given_up_after_a_few_attempts() {
    let mut note = note(1);
    let fetch = || {
        let problem = Problem::new(Code::SourceUnreachable, "no answer").stage(Stage::Fetch);
        Err(Failure::from(FetchError::ForNow(problem)))
    };
    for n in 1..FETCH_ATTEMPTS {
        settle(&mut note, fetch(), at(u64::from(n)), POLICY);
        assert_eq!(note.status, Status::Queued, "{n}");
    }
    settle(&mut note, fetch(), at(100), POLICY);
    assert_eq!(note.status, Status::Failed);
    assert_eq!(note.error.expect("an error").code, Code::SourceUnreachable);
    assert!(
        matches!(note.source, AudioSource::Url { url, headers, is_whole: false } if url == "https://e.com/a" && headers.is_empty())
    );
}

fn audio(kind: AudioErrorKind, stage: AudioStage) -> Result<Accepted, Failure> {
    Err(Failure::from(AudioError { kind, detail: format!("told so: {kind:?}"), stage }))
}

#[test]
fn ffmpeg_outage_is_retried_until_the_note_expires() {
    let mut note = note(1);
    for n in 0..30 {
        settle(&mut note, audio(AudioErrorKind::Outage, AudioStage::Probe), at(n), POLICY);
        assert_eq!(note.status, Status::Queued, "{n}");
    }
    let error = note.attempts[29].error.clone().expect("an error");
    assert_eq!((error.code.as_str(), error.stage.as_ref().map(Stage::as_str)), ("internal", Some("probe")));
    // Crashes on this file are counted separately.
    settle(&mut note, audio(AudioErrorKind::Died, AudioStage::Probe), at(30), POLICY);
    assert_eq!(note.status, Status::Queued);
    expire(&mut note, at(4000).ended);
    let error = note.error.expect("an error");
    assert_eq!((note.status, error.code.as_str()), (Status::Expired, "provider_unavailable"));
    assert!(error.detail.contains("gateway"), "{error}");
}

#[test]
fn file_that_always_crashes_ffmpeg_is_given_up() {
    for (kind, stage, most, code) in [
        (AudioErrorKind::Died, AudioStage::Probe, DEATHS, "audio_unsupported"),
        (AudioErrorKind::Died, AudioStage::Encode, DEATHS, "audio_unsupported"),
        (AudioErrorKind::Slow, AudioStage::Probe, RENDER_ATTEMPTS, "audio_unreadable"),
        (AudioErrorKind::Slow, AudioStage::Encode, RENDER_ATTEMPTS, "audio_unsupported"),
    ] {
        let mut note = note(1);
        for n in 1..=most {
            assert_eq!(note.status, Status::Queued, "{kind:?} {stage:?} {n}");
            settle(&mut note, audio(kind, stage), at(u64::from(n)), POLICY);
        }
        let error = note.error.expect("an error");
        assert_eq!(
            (note.status, error.code.as_str(), error.stage),
            (Status::Failed, code, Some(Stage::from(stage))),
            "{kind:?}"
        );
    }
}

/// The API names the stages that a problem can have, and `check` is none of them.
#[test]
fn failed_check_of_an_account_shows_the_stage_dispatch() {
    let error =
        SendError::new(SendErrorKind::Unauthorized, "the token is not accepted").at(ProviderStage::Check);
    let problem = Failure::still_failing(error).problem;
    assert_eq!(problem.stage, Some(Stage::Dispatch));
}

#[test]
fn number_of_stored_attempts_is_bounded_but_all_are_counted() {
    let mut note = note(1);
    note.expires_at = start() + Duration::from_secs(1_000_000);
    for n in 0..200 {
        settle(&mut note, failed(SendErrorKind::Unavailable), at(n), POLICY);
    }
    let numbers: Vec<_> = note.attempts.iter().map(|attempt| attempt.n).collect();
    assert_eq!((numbers.len(), numbers[0], numbers[MAX_ATTEMPTS - 1]), (MAX_ATTEMPTS, 1, 200));
}

fn any_end() -> impl Strategy<Value = Result<Accepted, Failure>> {
    use SendErrorKind::*;
    let kinds = vec![
        InvalidRecipient,
        NotReachable,
        FormUnavailable,
        OptedOut,
        MediaRejected,
        MediaTooLarge,
        ConversationClosed,
        Outdated,
        Rejected,
        Unauthorized,
        Misconfigured,
        RateLimited,
        NotReady,
        Unavailable,
        OutcomeUnknown,
        Unexpected,
    ];
    let accepted = Accepted { message_id: "m".to_owned(), ..Accepted::default() };
    prop_oneof![
        1 => Just(Ok(accepted)),
        9 => prop::sample::select(kinds).prop_map(failed),
    ]
}

proptest! {
    /// For every sequence of outcomes: an ended note stays ended, any other note has a next step, and an unknown
    /// outcome is not followed by another attempt unless repeating is allowed.
    #[test]
    fn invariants_hold_for_every_sequence_of_outcomes(ends in prop::collection::vec(any_end(), 1..12), connections in 1_usize..4, repeat: bool) {
        let policy = Policy { resend: repeat, ..POLICY };
        let mut note = note(connections);
        for (n, end) in ends.into_iter().enumerate() {
            let was = note.clone();
            let step = settle(&mut note, end, at(n as u64), policy);
            prop_assert_eq!(note.attempts.len(), n + 1);
            prop_assert!(note.position >= was.position && note.position < connections);
            match step {
                Step::Retry { at, .. } => {
                    prop_assert_eq!(note.status, Status::Queued);
                    prop_assert!(at <= note.expires_at);
                    prop_assert_eq!(note.next_attempt_at, Some(at));
                }
                Step::Hold { .. } => prop_assert_eq!(note.status, Status::Unknown),
                Step::Done => prop_assert!(note.status.is_ended()),
                other => prop_assert!(false, "{other:?}"),
            }
            let doubtful = was.attempts.iter().any(|attempt| attempt.outcome == Outcome::Unknown);
            prop_assert!(repeat || !doubtful);
            prop_assert!(!(doubtful && note.status.is_failure()));
            if note.status.is_ended() {
                break;
            }
        }
    }
}
