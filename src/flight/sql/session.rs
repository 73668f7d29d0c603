//! Session options: where they are kept between calls, and the actions on them.
//!
//! A session is a signed cookie, so that any server knows it. For a client that sends no cookies (ADBC's driver does
//! not unless told to) the options are also kept with its connection, and hold as long as that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;
use prost::bytes::Bytes;
use tonic::metadata::MetadataMap;

use super::super::ticket::{Grant, TICKET_SECONDS, TicketKey};
use super::messages::option_value::OptionValue as Sent;
use super::messages::{
    CloseSessionResult, ErrorValue, GetSessionOptionsResult, SESSION_CLOSED, SessionOptionValue, SetSessionOptionError,
    SetSessionOptionsRequest, SetSessionOptionsResult,
};
use crate::auth::Principal;
use crate::error::{Error, Result};
use crate::query::{OptionValue, Refusal, SessionOptions};

/// The name of the cookie.
const COOKIE: &str = "pandas_db_session";
/// Callers whose options one connection keeps: a proxy may share it among many.
const MAX_CALLERS: usize = 64;

/// The options that callers set on one connection.
#[derive(Debug, Clone, Default)]
pub struct ConnectionSession(Arc<Mutex<HashMap<(String, String), SessionOptions>>>);

impl ConnectionSession {
    fn get(&self, caller: &Principal) -> Option<SessionOptions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&of(caller)).cloned()
    }

    fn set(&self, caller: &Principal, options: Option<SessionOptions>) -> Result<()> {
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match options {
            None => {
                callers.remove(&of(caller));
            }
            Some(_) if callers.len() >= MAX_CALLERS && !callers.contains_key(&of(caller)) => {
                return Err(Error::exhausted(format!(
                    "more than {MAX_CALLERS} callers keep session options on this connection; send cookies instead"
                )));
            }
            Some(options) => {
                callers.insert(of(caller), options);
            }
        }
        Ok(())
    }
}

fn of(caller: &Principal) -> (String, String) {
    (caller.tenant.as_str().into(), caller.user.clone())
}

/// The session of one call.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Session {
    /// Its options.
    pub(in super::super) options: SessionOptions,
    has_cookie: bool,
    connection: Option<ConnectionSession>,
}

/// What becomes of the client's cookie.
pub(super) enum Cookie {
    Set(SessionOptions),
    Remove,
}

impl Session {
    /// The session that a call belongs to.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a cookie that is not one of ours for this caller.
    pub(in super::super) fn of_call(
        metadata: &MetadataMap,
        connection: Option<&ConnectionSession>,
        caller: &Principal,
        key: &TicketKey,
    ) -> Result<Self> {
        let connection = connection.cloned();
        if let Some(cookie) = session_cookie(metadata) {
            let signed = key.verify(caller, cookie).map(|signed| signed.grant);
            let Ok(Grant::Session(options)) = signed else {
                return Err(Error::invalid(
                    "the session cookie is not one of this server's for this caller, or has expired; drop it and set \
                     the options again",
                ));
            };
            return Ok(Self { options, has_cookie: true, connection });
        }
        let options = connection.as_ref().and_then(|connection| connection.get(caller)).unwrap_or_default();
        Ok(Self { options, has_cookie: false, connection })
    }

    /// Sets the options that can be, and tells of the others.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a body that is no request.
    pub(super) fn set(&self, body: &Bytes, caller: &Principal) -> Result<(Bytes, Cookie)> {
        let request = SetSessionOptionsRequest::decode(body.as_ref())
            .map_err(|error| Error::invalid("the body is no SetSessionOptionsRequest").because(error))?;
        let (mut options, mut errors) = (self.options.clone(), HashMap::new());
        for (name, value) in request.session_options {
            let outcome = match value.option_value {
                None => options.set(&name, None),
                Some(Sent::Text(text)) => options.set(&name, Some(OptionValue::Text(text))),
                Some(Sent::Int(number)) => options.set(&name, Some(OptionValue::Number(number))),
                // No option is a truth value, a fraction or a list; which of the two is wrong depends on the name.
                Some(Sent::Bool(_) | Sent::Double(_) | Sent::List(_)) => {
                    let known = options.all().iter().any(|(known, _)| *known == name) || name == "query_timeout";
                    Err(if known { Refusal::BadValue } else { Refusal::UnknownName })
                }
            };
            if let Err(refusal) = outcome {
                let value = match refusal {
                    Refusal::UnknownName => ErrorValue::InvalidName,
                    Refusal::BadValue => ErrorValue::InvalidValue,
                };
                errors.insert(name, SetSessionOptionError { value: value as i32 });
            }
        }
        if let Some(connection) = self.connection.as_ref().filter(|_| !self.has_cookie) {
            connection.set(caller, Some(options.clone()))?;
        }
        Ok((SetSessionOptionsResult { errors }.encode_to_vec().into(), Cookie::Set(options)))
    }

    /// All options.
    pub(super) fn get(&self) -> Bytes {
        let value = |(name, value): (&str, OptionValue)| {
            let value = match value {
                OptionValue::Text(text) => Sent::Text(text),
                OptionValue::Number(number) => Sent::Int(number),
            };
            (name.to_string(), SessionOptionValue { option_value: Some(value) })
        };
        let session_options = self.options.all().into_iter().map(value).collect();
        GetSessionOptionsResult { session_options }.encode_to_vec().into()
    }

    /// Ends the session.
    ///
    /// # Errors
    /// Never.
    pub(super) fn close(&self, caller: &Principal) -> Result<(Bytes, Cookie)> {
        if let Some(connection) = &self.connection {
            connection.set(caller, None)?;
        }
        Ok((CloseSessionResult { status: SESSION_CLOSED }.encode_to_vec().into(), Cookie::Remove))
    }
}

impl Cookie {
    /// The value of the header `set-cookie` (RFC 6265).
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when it cannot be signed.
    pub(super) fn header(self, caller: &Principal, key: &TicketKey) -> Result<String> {
        match self {
            Cookie::Set(options) => {
                let signed = key.sign(caller, Grant::Session(options))?;
                Ok(format!("{COOKIE}={signed}; Max-Age={TICKET_SECONDS}; Path=/; HttpOnly; SameSite=Strict"))
            }
            Cookie::Remove => Ok(format!("{COOKIE}=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict")),
        }
    }
}

fn session_cookie(metadata: &MetadataMap) -> Option<&str> {
    let headers = metadata.get_all("cookie").iter().filter_map(|header| header.to_str().ok());
    let pairs = headers.flat_map(|header| header.split(';'));
    let ours = pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(name, _)| *name == COOKIE);
    // Some clients send the quotes along that others put around values.
    ours.map(|(_, value)| value.trim_matches('"')).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::TenantId;

    fn caller(user: &str) -> Principal {
        Principal::new(user, TenantId::default_tenant())
    }

    fn request(name: &str, value: Option<Sent>) -> Bytes {
        let session_options = [(name.to_string(), SessionOptionValue { option_value: value })].into();
        SetSessionOptionsRequest { session_options }.encode_to_vec().into()
    }

    #[test]
    fn options_come_back_by_cookie_and_by_connection() {
        let (key, ann) = (TicketKey::new(&[1; 32]), caller("ann"));
        let connection = ConnectionSession::default();
        let session = Session::of_call(&MetadataMap::new(), Some(&connection), &ann, &key).unwrap();
        let (_, cookie) = session.set(&request("schema", Some(Sent::Text("sales".into()))), &ann).unwrap();
        let header = cookie.header(&ann, &key).unwrap();
        let cookie = header.split(';').next().unwrap();
        let mut metadata = MetadataMap::new();
        metadata.insert("cookie", format!("other=1; {cookie}").parse().unwrap());
        let schema = |metadata: &MetadataMap, connection: Option<&ConnectionSession>, user: &str| {
            let session = Session::of_call(metadata, connection, &caller(user), &key);
            session.map(|session| session.options.schema().to_string())
        };
        assert_eq!(schema(&metadata, None, "ann").unwrap(), "sales");
        assert_eq!(schema(&MetadataMap::new(), Some(&connection), "ann").unwrap(), "sales");
        assert_eq!(schema(&MetadataMap::new(), Some(&connection), "bob").unwrap(), "public");
        assert!(schema(&metadata, None, "bob").is_err());
        session.close(&ann).unwrap();
        assert_eq!(schema(&MetadataMap::new(), Some(&connection), "ann").unwrap(), "public");
    }

    #[test]
    fn what_cannot_be_set_is_told() {
        let session = Session::default();
        let errors = |name: &str, value| {
            let (body, _) = session.set(&request(name, value), &caller("ann")).unwrap();
            let result = SetSessionOptionsResult::decode(body.as_ref()).unwrap();
            result.errors.get(name).map(|error| error.value)
        };
        assert_eq!(errors("colour", Some(Sent::Bool(true))), Some(ErrorValue::InvalidName as i32));
        assert_eq!(errors("endpoints", Some(Sent::Double(1.5))), Some(ErrorValue::InvalidValue as i32));
        assert_eq!(errors("endpoints", Some(Sent::Int(3))), None);
        assert!(session.set(&Bytes::from_static(b"\xff"), &caller("ann")).is_err());
    }
}
