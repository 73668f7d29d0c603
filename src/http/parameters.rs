//! Names and options in a URL.

use axum::http::Uri;
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use crate::error::{Error, Result, shorten};
use crate::names::DatasetName;
use crate::proto::GetDataframe;

/// What stands before the name of a dataset in a path.
const NAMES_BELOW: &str = "/dataframes/";

/// The dataset that a path names: all after `/dataframes/`, with its slashes as they are or percent-encoded.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) as [`DatasetName::parse`], and for what is not UTF-8.
pub(super) fn dataset_name(uri: &Uri) -> Result<DatasetName> {
    let encoded = uri.path().strip_prefix(NAMES_BELOW).unwrap_or_default();
    let name = percent_decode_str(encoded).decode_utf8().map_err(|error| {
        Error::invalid("the name of the dataframe in the path is not percent-encoded UTF-8").because(error)
    })?;
    DatasetName::parse(&name)
}

/// The rows of a dataset that a query string asks for.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) for an option that there is not, that comes twice, or whose value
/// cannot be.
pub(super) fn read_options(name: &DatasetName, uri: &Uri) -> Result<GetDataframe> {
    let mut command = GetDataframe { dataframe_name: name.as_str().into(), ..Default::default() };
    let mut use_last = None;
    for (option, value) in pairs(uri) {
        match option.as_ref() {
            "external_key" => once(&mut command.external_key, &option, value.into_owned())?,
            "use_last" => once(&mut use_last, &option, read_bool(&option, &value)?)?,
            "version" => once(&mut command.version, &option, read_number(&option, &value)?)?,
            "as_of" => once(&mut command.as_of, &option, value.into_owned())?,
            "filter" => once(&mut command.filter, &option, value.into_owned())?,
            "columns" => command.columns.push(value.into_owned()),
            _ => {
                return Err(unknown(&option, "external_key, use_last, version, as_of, columns and filter"));
            }
        }
    }
    command.use_last = use_last.unwrap_or_default();
    Ok(command)
}

/// The prefix of a listing; all names begin with an empty one.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) for another option, or a second prefix.
pub(super) fn prefix(uri: &Uri) -> Result<String> {
    let mut prefix = None;
    for (option, value) in pairs(uri) {
        match option.as_ref() {
            "prefix" => once(&mut prefix, &option, value.into_owned())?,
            _ => return Err(unknown(&option, "prefix")),
        }
    }
    Ok(prefix.unwrap_or_default())
}

/// Refuses options where there are none.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the first.
pub(super) fn none(uri: &Uri) -> Result<()> {
    match pairs(uri).next() {
        None => Ok(()),
        Some((option, _)) => {
            Err(Error::invalid(format!("there is no option '{}'; this call takes none in its URL", shorten(&option))))
        }
    }
}

fn pairs(uri: &Uri) -> form_urlencoded::Parse<'_> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
}

fn once<T>(place: &mut Option<T>, option: &str, value: T) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(format!("the option {option} is given twice"))),
    }
}

/// An ignored option would change what is read.
fn unknown(option: &str, known: &str) -> Error {
    Error::invalid(format!("there is no option '{}'; this call takes {known}", shorten(option)))
}

fn read_bool(option: &str, value: &str) -> Result<bool> {
    // Clients write their own language's words.
    match value {
        "true" | "True" | "TRUE" | "1" => Ok(true),
        "false" | "False" | "FALSE" | "0" => Ok(false),
        other => Err(Error::invalid(format!("{option} is '{}'; it must be true or false", shorten(other)))),
    }
}

fn read_number(option: &str, value: &str) -> Result<i64> {
    value.parse().map_err(|_| Error::invalid(format!("{option} is '{}'; it must be a whole number", shorten(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn names_may_have_their_slashes_encoded() {
        for path in
            ["/dataframes/a/b%20c", "/dataframes/a%2Fb%20c?x=1", "/dataframes/a%2fb c".replace(' ', "%20").as_str()]
        {
            assert_eq!(dataset_name(&uri(path)).unwrap().as_str(), "a/b c");
        }
        assert_eq!(dataset_name(&uri("/dataframes/upload")).unwrap().as_str(), "upload");
        assert_eq!(dataset_name(&uri("/dataframes/gr%C3%B6%C3%9Fe")).unwrap().as_str(), "größe");
        for path in ["/dataframes/a//b", "/dataframes/a/", "/dataframes/%ff", "/dataframes/..%2F..%2Fetc"] {
            assert!(dataset_name(&uri(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn options_are_read_and_strangers_refused() {
        let name = DatasetName::parse("a").unwrap();
        let read = |query: &str| read_options(&name, &uri(&format!("/dataframes/a?{query}")));
        let command = read("external_key=a%20b+c&use_last=true&columns=x&columns=y,z&version=3").unwrap();
        assert_eq!(command.external_key.as_deref(), Some("a b c"));
        assert!(command.use_last);
        assert_eq!((command.columns.as_slice(), command.version), (&["x".to_string(), "y,z".to_string()][..], Some(3)));
        assert!(!read("use_last=False").unwrap().use_last);
        for query in ["use_last=maybe", "version=x", "external_keys=k", "as_of=1&as_of=2", "use_last"] {
            assert!(read(query).is_err(), "{query}");
        }
        assert_eq!(prefix(&uri("/dataframes?prefix=a%2F")).unwrap(), "a/");
        assert!(prefix(&uri("/dataframes?pre=a")).is_err());
        assert!(none(&uri("/sql?sql=1")).is_err());
    }
}
