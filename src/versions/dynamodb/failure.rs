//! What failures of DynamoDB mean: for callers, and for the operator.
//!
//! Callers learn whether to retry, and nothing of tables, rights or credentials. What the operator can do about it is
//! the [source](std::error::Error::source) of the error, which goes to the log; commands of the operator show it.

use std::error::Error as StdError;
use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;

use super::DynamoVersionStore;
use crate::error::{Error, Kind};

/// What a condition that does not hold is called.
pub(super) const CONDITION_FAILED: &str = "ConditionalCheckFailed";
/// What a conflict with another transaction is called.
pub(super) const CONFLICT: &str = "TransactionConflict";

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// More requests than DynamoDB takes.
    Throttled,
    /// Another transaction has the item.
    Conflict,
    /// There is no such table.
    NoTable,
    /// A right is missing.
    Denied,
    /// There are no credentials, or they are not good (any more).
    Credentials,
    /// Our clock, or theirs, is wrong.
    Clock,
    /// DynamoDB understood the request and takes it for nonsense: the table is another program's.
    Refused,
    /// No answer, or one that says nothing.
    Away,
}

/// What the operator is told.
#[derive(Debug)]
pub(super) struct Advice {
    text: String,
    is_setting: bool,
    cause: Cause,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Advice {}

impl DynamoVersionStore {
    /// The error of a request that failed.
    pub(super) fn failed<E, R>(&self, operation: &str, error: SdkError<E, R>) -> Error
    where
        E: ProvideErrorMetadata + StdError + 'static,
        R: fmt::Debug + 'static,
    {
        let cause = cause(&error);
        let advice = self.advice(operation, cause, &said(cause, &error));
        let for_caller = match cause {
            Cause::Throttled => Error::exhausted("the version store takes no more requests at the moment; retry later"),
            Cause::Conflict => Error::conflict("other changes of the same dataset were first; retry"),
            _ => Error::unavailable("the version store did not answer as it should; retry later"),
        };
        let is_setting = matches!(cause, Cause::NoTable | Cause::Refused);
        for_caller.because(Advice { text: advice, is_setting, cause })
    }

    fn advice(&self, operation: &str, cause: Cause, said: &str) -> String {
        let Self { table, region, .. } = self;
        let what_to_do = match cause {
            Cause::Throttled => {
                "the table takes no more requests; make it PAY_PER_REQUEST or give it more capacity".into()
            }
            Cause::Conflict => "other changes of the same item were first".into(),
            Cause::NoTable => format!(
                "there is no such table in {region} in this account; run `pandas-db init` with the same settings, or \
                 look at AWS_REGION"
            ),
            Cause::Denied => format!("allow the role {} on the table", rights(operation)),
            Cause::Credentials => "look at the AWS credentials: they are missing, wrong or expired".into(),
            Cause::Clock => "look at this machine's clock: it is off by more than AWS allows".into(),
            Cause::Refused => "the table is not one that `pandas-db init` makes, or the endpoint is no DynamoDB".into(),
            Cause::Away => "look at AWS_REGION, AWS_ENDPOINT_URL_DYNAMODB and the network".into(),
        };
        format!("DynamoDB table '{table}': {operation} failed ({said}); {what_to_do}")
    }
}

/// Whether the condition of a write did not hold.
pub(super) fn is_refused<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    code(error) == Some("ConditionalCheckFailedException")
}

/// Whether it is not known if the request was carried out.
pub(super) fn is_unclear(error: &Error) -> bool {
    advice_of(error).is_some_and(|advice| advice.cause == Cause::Away)
}

/// The same error in words for the operator.
pub(super) fn for_operator(error: Error) -> Error {
    match advice_of(&error) {
        Some(advice) if advice.is_setting => Error::invalid(advice.text.clone()),
        Some(advice) if error.kind() == Kind::Unavailable => Error::unavailable(advice.text.clone()),
        _ => error,
    }
}

fn advice_of(error: &Error) -> Option<&Advice> {
    StdError::source(error).and_then(|source| source.downcast_ref())
}

fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

fn cause<E, R>(error: &SdkError<E, R>) -> Cause
where
    E: ProvideErrorMetadata + StdError + 'static,
    R: fmt::Debug + 'static,
{
    let Some(service) = error.as_service_error() else {
        return if has_no_credentials(error) { Cause::Credentials } else { Cause::Away };
    };
    let message = service.message().unwrap_or_default();
    match service.code().unwrap_or_default() {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "TransactionInProgressException" => Cause::Throttled,
        "TransactionConflictException" => Cause::Conflict,
        "TransactionCanceledException" => cancelled(service),
        "ResourceNotFoundException" => Cause::NoTable,
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" | "OptInRequired" => Cause::Denied,
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => Cause::Clock,
        "InvalidSignatureException" | "SignatureDoesNotMatch" if is_about_time(message) => Cause::Clock,
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => Cause::Credentials,
        "ValidationException" | "SerializationException" | "UnknownOperationException" => Cause::Refused,
        _ => Cause::Away,
    }
}

/// Why a transaction was given up for another reason than a condition.
fn cancelled<E: StdError + 'static>(error: &E) -> Cause {
    let reasons = match (error as &(dyn StdError + 'static)).downcast_ref() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled.cancellation_reasons(),
        _ => &[],
    };
    let mut codes = reasons.iter().filter_map(|reason| reason.code());
    match codes.find(|code| !matches!(*code, "None" | CONDITION_FAILED)) {
        Some(CONFLICT) => Cause::Conflict,
        Some("ThrottlingError" | "ProvisionedThroughputExceeded") => Cause::Throttled,
        Some("ValidationError") => Cause::Refused,
        _ => Cause::Away,
    }
}

fn is_about_time(message: &str) -> bool {
    ["expired", "not yet current", "too skewed"].iter().any(|words| message.contains(words))
}

fn has_no_credentials(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<CredentialsError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// What DynamoDB, or the way to it, said. What it says of a signature holds the request with its session token.
fn said<E, R>(cause: Cause, error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + StdError + 'static,
    R: fmt::Debug + 'static,
{
    match error.as_service_error() {
        Some(service) => match (service.code(), service.message()) {
            (Some(code), Some(message)) if !matches!(cause, Cause::Credentials | Cause::Clock) => {
                format!("{code}: {message}")
            }
            (Some(code), _) => code.to_string(),
            (None, _) => format!("an answer without a code: {}", innermost(error)),
        },
        None => innermost(error),
    }
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    match last.to_string() {
        words if words == error.to_string() => words,
        words => format!("{error}: {words}"),
    }
}

/// The rights that an operation needs.
fn rights(operation: &str) -> String {
    match operation {
        "TransactWriteItems" => "dynamodb:PutItem and dynamodb:DeleteItem".into(),
        other => format!("dynamodb:{other}"),
    }
}
