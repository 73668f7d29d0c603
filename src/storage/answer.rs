//! What S3's refusals mean.
//!
//! Its error documents name keys and what was signed; of them only the code goes on, with what an operator can do.

use object_store::Error;

use super::credentials::NoCredentials;

/// The store's name in errors.
const NAME: &str = "S3";

/// What `object_store` says of a redirect that names no place. S3's is one of a bucket in another region; the document
/// that says so is not handed on.
const REDIRECTED: &str = "Received redirect without LOCATION";

/// A refusal by S3, as far as anybody may see it.
#[derive(Debug)]
pub(super) struct Refusal {
    code: String,
    bucket: String,
}

impl std::error::Error for Refusal {}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bucket = &self.bucket;
        match advice(&self.code) {
            Some(advice) => write!(f, "S3 refused a request to the bucket {bucket} ({}): {advice}", self.code),
            None => write!(f, "S3 refused a request to the bucket {bucket} ({})", self.code),
        }
    }
}

/// What an operator does about a code.
fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "NoSuchBucket" => "it is not there; make it, or start with --create-buckets",
        "AccessDenied" | "AllAccessDisabled" => {
            "these credentials may not; they need GetObject, PutObject, DeleteObject, AbortMultipartUpload, ListBucket \
             and ListBucketMultipartUploads on it"
        }
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" => {
            "the credentials are not known there; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or the role"
        }
        "ExpiredToken" => "the credentials have expired; renew them",
        "RequestTimeTooSkewed" => "this machine's clock is wrong; set it by NTP",
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException" => {
            "it is in another region; set AWS_REGION"
        }
        "BucketAlreadyExists" => "the name belongs to somebody else; choose another in --storage",
        "InvalidBucketName" => "that is no name for a bucket; change --storage",
        "SlowDown" | "ServiceUnavailable" => "it asks for fewer requests",
        _ => return None,
    })
}

/// The code in an error's text, which holds the document that S3 sent.
fn code(error: &Error) -> Option<String> {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(refusal) = inner.downcast_ref::<Refusal>() {
            return Some(refusal.code.clone());
        }
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    if text.contains(REDIRECTED) {
        return Some("PermanentRedirect".into());
    }
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    code.chars().all(|c| c.is_ascii_alphanumeric()).then(|| code.to_string())
}

/// Whether it was the bucket that is not there.
pub(super) fn is_no_bucket(error: &Error) -> bool {
    code(error).as_deref() == Some("NoSuchBucket")
}

/// The same error without what S3 told about keys and signatures. A missing bucket is not a missing object.
pub(super) fn told(bucket: &str, error: Error) -> Error {
    let Some(code) = code(&error) else { return error };
    let is_no_bucket = code == "NoSuchBucket";
    let source = Box::new(Refusal { code, bucket: bucket.into() });
    match error {
        Error::NotFound { .. } if is_no_bucket => Error::Generic { store: NAME, source },
        Error::NotFound { path, .. } => Error::NotFound { path, source },
        Error::AlreadyExists { path, .. } => Error::AlreadyExists { path, source },
        Error::Precondition { path, .. } => Error::Precondition { path, source },
        Error::NotModified { path, .. } => Error::NotModified { path, source },
        Error::PermissionDenied { path, .. } => Error::PermissionDenied { path, source },
        Error::Unauthenticated { path, .. } => Error::Unauthenticated { path, source },
        _ => Error::Generic { store: NAME, source },
    }
}

/// What an operator is told of an error.
pub(super) fn explained(error: &Error) -> String {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(refusal) = inner.downcast_ref::<Refusal>() {
            return refusal.to_string();
        }
        if let Some(none) = inner.downcast_ref::<NoCredentials>() {
            return none.to_string();
        }
        source = inner.source();
    }
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            "S3 refused the credentials; check them, and this machine's clock".into()
        }
        _ => "S3 cannot be reached; check AWS_ENDPOINT_URL_S3, AWS_REGION, the credentials and the network".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> Error {
        let source = format!(
            "Client error with status 403 Forbidden: <Error><Code>{code}</Code><AWSAccessKeyId>AKIASECRET\
             </AWSAccessKeyId></Error>"
        );
        Error::NotFound { path: "x".into(), source: source.into() }
    }

    #[test]
    fn a_refusal_keeps_the_code_and_loses_the_rest() {
        let error = told("b", refused("SignatureDoesNotMatch"));
        let text = format!("{error} {error:?} {}", explained(&error));
        assert!(text.contains("SignatureDoesNotMatch") && text.contains("AWS_SECRET_ACCESS_KEY"), "{text}");
        assert!(!text.contains("AKIASECRET"), "{text}");
        assert!(matches!(error, Error::NotFound { .. }));
    }

    #[test]
    fn a_missing_bucket_is_not_a_missing_object() {
        assert!(is_no_bucket(&refused("NoSuchBucket")) && !is_no_bucket(&refused("NoSuchKey")));
        let error = told("b", refused("NoSuchBucket"));
        assert!(matches!(error, Error::Generic { .. }) && is_no_bucket(&error));
        assert!(explained(&error).contains("--create-buckets"));
        assert!(matches!(told("b", refused("NoSuchKey")), Error::NotFound { .. }));
    }

    #[test]
    fn a_redirect_is_to_another_region() {
        let redirected =
            Error::Generic { store: "S3", source: format!("Error performing GET - {REDIRECTED}, x").into() };
        let text = explained(&told("b", redirected));
        assert!(text.contains("(PermanentRedirect)") && text.contains("set AWS_REGION"), "{text}");
    }

    #[test]
    fn what_has_no_code_stays_as_it_is() {
        let away = Error::Generic { store: "S3", source: "connection refused".into() };
        assert!(told("b", away).to_string().contains("connection refused"));
    }
}
