//! Why a bucket does not do as it should, in words for its operator: no URL, no name, no key.

use std::io;

use object_store::Error;

/// The texts go on from "the bucket".
#[derive(Debug, thiserror::Error)]
#[error("the bucket {0}")]
struct Trouble(String);

pub fn new(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::HostUnreachable, Trouble(what.into()))
}

/// That one object is not there. A bucket that is not there is worse.
pub fn is_absence(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) && code(&error.to_string()) != Some("NoSuchBucket")
}

pub fn of(error: Error) -> io::Error {
    if is_absence(&error) {
        return io::ErrorKind::NotFound.into();
    }
    new(words(&error))
}

/// The error code that S3 sends in its XML.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let plain = (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
    plain.then_some(code)
}

fn words(error: &Error) -> String {
    let kind = match error {
        Error::PermissionDenied { .. } => "AccessDenied",
        Error::Unauthenticated { .. } => "Unauthorized",
        _ => "",
    };
    words_of_text(&chain(error), kind)
}

/// All causes: which of them says most depends on where it broke.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push('\n');
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// `kind` where the answer has no code of its own.
fn words_of_text(text: &str, kind: &str) -> String {
    let code = code(text).unwrap_or(kind);
    let has = |part: &str| text.contains(part);
    // https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    match code {
        "NoSuchBucket" => "does not exist at this endpoint; make it, or correct storage.media or AWS_ENDPOINT_URL".to_owned(),
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" | "Unauthorized" | "NotSignedUp"
        | "InvalidSecurity" => format!(
            "does not accept these credentials ({code}); correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where \
             there is one, AWS_SESSION_TOKEN"
        ),
        "RequestTimeTooSkewed" => "finds that the clock of this machine is wrong; set it by NTP".to_owned(),
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException" => {
            format!("is in another region ({code}); set AWS_REGION to the bucket's own")
        }
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => format!(
            "may not be used like this with these credentials ({code}); allow s3:ListBucket for the bucket, and \
             s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload for what is in it"
        ),
        "" if has("indicates an incorrectly configured region") => {
            "is in another region; set AWS_REGION to the bucket's own".to_owned()
        }
        "" if has("Missing AccessKeyId") || has("Missing SecretAccessKey") => {
            "has only half of its credentials; set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned()
        }
        "" if has("scheme is not allowed") || has("URL scheme") => {
            "has an endpoint with http; use https, or set AWS_ALLOW_HTTP=true where the network is trusted".to_owned()
        }
        "" if has("169.254.169.254") || has("instance metadata") => {
            "has no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a role gives them".to_owned()
        }
        "" if has("Server returned") => "answers with an error; look at the state of the S3 service".to_owned(),
        "" => "does not answer; look at the network and at AWS_ENDPOINT_URL".to_owned(),
        code => format!("refuses ({code}); look this up in the documentation of the S3 service"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_found(code: &str) -> Error {
        let answer = format!("Server returned non-2xx status code: 404: <Error><Code>{code}</Code></Error>");
        Error::NotFound { path: "a/S3CRET".to_owned(), source: answer.into() }
    }

    #[test]
    fn a_bucket_that_is_not_there_is_no_empty_one() {
        assert_eq!(of(not_found("NoSuchKey")).kind(), io::ErrorKind::NotFound);
        let error = of(not_found("NoSuchBucket"));
        assert_eq!(error.kind(), io::ErrorKind::HostUnreachable);
        assert!(error.to_string().starts_with("the bucket does not exist"), "{error}");
    }

    #[test]
    fn what_is_not_known_is_said_by_its_code_alone() {
        let generic = |text: &str| Error::Generic { store: "S3", source: text.to_owned().into() };
        for (text, expected) in [
            ("https://S3CRET <Code>SlowDown</Code><Message>S3CRET</Message>", "refuses (SlowDown)"),
            ("S3CRET <Code>AuthorizationHeaderMalformed</Code>", "AWS_REGION"),
            (
                "Received redirect without LOCATION, this normally indicates an incorrectly configured region",
                "AWS_REGION",
            ),
            ("S3CRET <Code>not <a> code</Code>", "does not answer"),
            ("Server returned non-2xx status code: 502: S3CRET", "answers with an error"),
            ("error sending request for url (http://169.254.169.254/S3CRET)", "AWS_ACCESS_KEY_ID"),
        ] {
            let said = of(generic(text)).to_string();
            assert!(said.contains(expected) && !said.contains("S3CRET"), "{said}");
        }
    }
}
