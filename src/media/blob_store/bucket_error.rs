//! Explains errors of a bucket to the operator, without URLs, names or keys.

use std::io;

use object_store::Error;

/// Each text continues "the bucket".
#[derive(Debug, thiserror::Error)]
#[error("the bucket {0}")]
struct BucketError(String);

pub fn new(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::HostUnreachable, BucketError(what.into()))
}

/// Whether one object does not exist. A missing bucket is another error.
pub fn is_absence(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) && code(&error.to_string()) != Some("NoSuchBucket")
}

pub fn from(error: Error) -> io::Error {
    if is_absence(&error) {
        return io::ErrorKind::NotFound.into();
    }
    new(explanation(&error))
}

/// The error code in the XML of S3.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let plain = (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
    plain.then_some(code)
}

fn explanation(error: &Error) -> String {
    let kind = match error {
        Error::PermissionDenied { .. } => "AccessDenied",
        Error::Unauthenticated { .. } => "Unauthorized",
        _ => "",
    };
    explain_text(&chain(error), kind)
}

/// The error with all its causes, any of which may be the most precise.
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

/// `kind` is used if the answer has no code of its own.
fn explain_text(text: &str, kind: &str) -> String {
    let code = code(text).unwrap_or(kind);
    let has = |part: &str| text.contains(part);
    // Codes: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
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
    fn missing_bucket_is_not_taken_for_an_empty_one() {
        assert_eq!(from(not_found("NoSuchKey")).kind(), io::ErrorKind::NotFound);
        let error = from(not_found("NoSuchBucket"));
        assert_eq!(error.kind(), io::ErrorKind::HostUnreachable);
        assert!(error.to_string().starts_with("the bucket does not exist"), "{error}");
    }

    #[test]
    fn unknown_errors_are_reported_by_code_alone() {
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
            let said = from(generic(text)).to_string();
            assert!(said.contains(expected) && !said.contains("S3CRET"), "{said}");
        }
    }
}
