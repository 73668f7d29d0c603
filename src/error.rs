//! The one error type of the crate.
//!
//! An [`Error`] has a [`Kind`], which tells the caller's next move, and a message, which says what was wrong,
//! where, and what to do. The kind alone decides the code on the wire (`flight/status.rs`, `http/status.rs`).
//! The message reaches users verbatim, so it never holds a path outside the caller's own data, a secret or a stack;
//! the [source](std::error::Error::source) goes to the log only.

use std::error::Error as StdError;
use std::fmt;

/// What the caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is wrong and stays wrong: change it.
    Invalid,
    /// Say who you are, then ask again.
    Unauthenticated,
    /// Ask somebody for the right.
    Forbidden,
    /// The dataset, version or key does not exist (or may not be seen).
    NotFound,
    /// It exists already: choose another name, or use what is there.
    AlreadyExists,
    /// Another writer was first: read again and retry.
    Conflict,
    /// A limit was reached: send less, or slow down.
    Exhausted,
    /// It took longer than allowed: ask for less, or raise the limit.
    Timeout,
    /// The caller gave up.
    Cancelled,
    /// Storage or a peer is away: retry later.
    Unavailable,
    /// This server cannot do that.
    Unimplemented,
    /// Stored data is damaged: an operator must look.
    Corrupt,
    /// A defect of pandas-db.
    Internal,
}

impl Kind {
    /// The name of the gRPC code of this kind, as it stands in brackets before every message.
    pub fn code(self) -> &'static str {
        match self {
            Kind::Invalid => "INVALID_ARGUMENT",
            Kind::Unauthenticated => "UNAUTHENTICATED",
            Kind::Forbidden => "PERMISSION_DENIED",
            Kind::NotFound => "NOT_FOUND",
            Kind::AlreadyExists => "ALREADY_EXISTS",
            Kind::Conflict => "ABORTED",
            Kind::Exhausted => "RESOURCE_EXHAUSTED",
            Kind::Timeout => "DEADLINE_EXCEEDED",
            Kind::Cancelled => "CANCELLED",
            Kind::Unavailable => "UNAVAILABLE",
            Kind::Unimplemented => "UNIMPLEMENTED",
            Kind::Corrupt => "DATA_LOSS",
            Kind::Internal => "INTERNAL",
        }
    }
}

/// A failure, with the caller's next move and the words for it.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of anything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $($(#[$doc])* pub fn $name(message: impl Into<String>) -> Self {
                Self { kind: Kind::$kind, message: message.into(), source: None }
            })*
        }
    };
}

constructors! {
    /// A request that must be changed.
    invalid => Invalid,
    /// Something that is not there.
    not_found => NotFound,
    /// Something that is there already.
    already_exists => AlreadyExists,
    /// A lost race.
    conflict => Conflict,
    /// A limit that was reached.
    exhausted => Exhausted,
    /// A time limit that was reached.
    timeout => Timeout,
    /// A call that its caller ended.
    cancelled => Cancelled,
    /// Storage or a peer that is away.
    unavailable => Unavailable,
    /// A call this server does not offer.
    unimplemented => Unimplemented,
    /// Damaged stored data.
    corrupt => Corrupt,
    /// A defect.
    internal => Internal,
    /// A right the caller lacks.
    forbidden => Forbidden,
    /// Missing or unusable credentials.
    unauthenticated => Unauthenticated,
}

impl Error {
    /// Keeps `source` for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What was wrong, where, and what to do; without the code.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// A copy for a second reader of the same outcome; the source stays with the first.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self { kind: self.kind, message: self.message.clone(), source: None }
    }

    /// The message and what led to it, which may tell of the inside: for the log, never for a caller.
    pub fn in_full(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| match StdError::source(self) {
            Some(cause) => write!(f, "{self} (cause: {cause})"),
            None => write!(f, "{self}"),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.kind.code(), self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// The first characters of what a caller sent, fit for a message.
pub fn shorten(text: &str) -> String {
    const SHOWN_CHARS: usize = 120;
    let mut short: String = text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        short.push('…');
    }
    short
}

/// A message fit for a header, which clients refuse over 8 KiB and in which percent-encoding may triple it.
pub fn clip(mut message: String) -> String {
    const MAX_MESSAGE_BYTES: usize = 2_000;
    if message.len() > MAX_MESSAGE_BYTES {
        let end = message.floor_char_boundary(MAX_MESSAGE_BYTES);
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_begins_with_the_code_and_hides_the_source() {
        let error = Error::invalid("column 'x' is absent").because(std::io::Error::other("/secret/path"));
        assert_eq!(error.to_string(), "[INVALID_ARGUMENT] column 'x' is absent");
        assert!(error.source().is_some());
    }
}
